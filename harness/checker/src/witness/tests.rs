use super::{Drawing, Shown, graph_svg, text, timeline_svg};
use crate::answer::{Link, OpId, Relation, Witness};

fn drawing() -> Drawing {
    let link = |from, to, relation, why: &str| Link {
        from: OpId(from),
        to: OpId(to),
        relation,
        why: why.to_owned(),
    };
    let witness = Witness {
        class: "G-single-realtime",
        sentence: "no order fits".to_owned(),
        ops: vec![OpId(4), OpId(7), OpId(9)],
        links: vec![
            link(4, 9, Relation::Realtime, "T4 had returned first"),
            link(9, 4, Relation::ReadWrite, "T9 read <x> without 2, which T4 appended"),
        ],
    };
    Drawing::new(&witness, |op| match op.0 {
        4 => {
            Shown { name: "T4".into(), lane: "p0".into(), from: 10, to: Some(20), words: "append x 2".into() }
        }
        7 => Shown { name: "T7".into(), lane: "p1".into(), from: 12, to: None, words: "append x 3".into() },
        _ => {
            Shown { name: "T9".into(), lane: "p0".into(), from: 30, to: Some(31), words: "read <x> 1".into() }
        }
    })
}

#[test]
fn the_text_shows_who_overlapped_whom() {
    let expected = "\
G-single-realtime: no order fits
  p0  |-T4 append x 2-|  |-T9 read <x> 1-|
  p1    |-T7 append x 3-------------------->
  T4 before T9 (realtime): T4 had returned first
  T9 before T4 (rw): T9 read <x> without 2, which T4 appended
";
    assert_eq!(text(&drawing()), expected);
}

#[test]
fn drawings_are_whole_and_escaped() {
    for svg in [timeline_svg(&drawing()), graph_svg(&drawing())] {
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("read &lt;x&gt; 1") && !svg.contains("<x>"), "{svg}");
        for tag in ["svg", "text", "title", "path", "defs", "marker"] {
            let start = format!("<{tag} ");
            let opened = svg.matches(&start).count() + svg.matches(&format!("<{tag}>")).count();
            let alone = svg
                .match_indices(&start)
                .filter(|(at, _)| svg[*at..].find('>').is_some_and(|end| svg[..at + end].ends_with('/')));
            assert_eq!(opened - alone.count(), svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
    assert_eq!(graph_svg(&drawing()).matches("marker-end").count(), 2);
}

#[test]
fn operations_of_one_lane_that_overlap_get_rows_of_their_own() {
    let mut crowded = drawing();
    crowded.ops[1].lane = "p0".to_owned();
    assert_eq!(text(&crowded).lines().filter(|line| line.starts_with("  p0")).count(), 2);
    assert!(
        text(&Drawing { title: "nothing".into(), ops: Vec::new(), arrows: Vec::new() })
            .starts_with("nothing")
    );
}
