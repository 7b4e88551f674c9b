//! The copy of what passes on the bus: all of it, in order, and nothing else.

use slotstorm_fabric::{
    BusPassed, Dir, End, Endpoint, Fabric, FabricOptions, LinkChange, Listener, OnHeal, Plane, Policy,
};

const N1: Endpoint = Endpoint::Node(1);
const N2: Endpoint = Endpoint::Node(2);

fn fabric() -> Fabric {
    Fabric::new(FabricOptions { tape_bus: true, ..FabricOptions::default() })
}

/// What the tape holds, as words.
fn told(fabric: &mut Fabric) -> Vec<String> {
    let tape = fabric.take_bus_tape();
    let word = |what| match what {
        BusPassed::Opened => "opened".to_owned(),
        BusPassed::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        BusPassed::Closed => "closed".to_owned(),
    };
    tape.pieces()
        .map(|piece| {
            format!("{} {}>{} {} {}", piece.time, piece.from, piece.to, piece.conn, word(piece.what))
        })
        .collect()
}

#[test]
fn both_directions_are_told_when_they_are_read_and_other_planes_are_not() {
    let mut fabric = fabric();
    let bus = fabric.open(1, N1, N2, Listener::Bus);
    let data = fabric.open(2, N1, N2, Listener::Data);
    fabric.connected(bus);
    fabric.connected(data);
    fabric.push(3, bus, Dir::Up, b"ping");
    fabric.push(4, data, Dir::Up, b"GET x");
    fabric.push(5, bus, Dir::Down, b"pong");
    assert_eq!(told(&mut fabric), ["1 n1>n2 0 opened", "3 n1>n2 0 ping", "5 n2>n1 0 pong"]);
    fabric.push_end(6, bus, Dir::Up, End::Rst);
    while fabric.poll(7).is_some() {}
    assert_eq!(told(&mut fabric), ["7 n1>n2 0 closed"]);
    assert_eq!(told(&mut fabric), [] as [&str; 0]);
}

#[test]
fn what_a_cut_holds_is_told_when_it_is_read_and_a_delay_changes_nothing() {
    let mut fabric = fabric();
    let bus = fabric.open(1, N1, N2, Listener::Bus);
    fabric.connected(bus);
    while fabric.poll(1).is_some() {}
    let _ = told(&mut fabric);
    let change = |policy| [LinkChange { from: N1, to: N2, planes: vec![Plane::Bus], policy }];
    fabric.apply(2, &change(Policy::Blackhole { on_heal: OnHeal::Resume }));
    assert!(!fabric.wants_read(bus, Dir::Up), "nobody reads, so nothing is told");
    fabric.apply(3, &change(Policy::Delay { delay_ms: 50, jitter_ms: 0 }));
    fabric.push(4, bus, Dir::Up, b"late");
    assert_eq!(told(&mut fabric), ["4 n1>n2 0 late"], "as sent, not as delivered");
}

#[test]
fn nothing_is_copied_unasked() {
    let mut fabric = Fabric::new(FabricOptions::default());
    let bus = fabric.open(1, N1, N2, Listener::Bus);
    fabric.push(2, bus, Dir::Up, b"ping");
    assert!(fabric.take_bus_tape().is_empty() && fabric.bus_bytes() == 0);
}
