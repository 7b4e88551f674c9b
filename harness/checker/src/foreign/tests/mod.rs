mod exporting;
mod judging;
mod mutations;
mod reading;

use super::{Call, Event, ForeignError, Format, Lint, Pairing, read};

fn events(text: &str, format: Format) -> Result<Vec<Event>, ForeignError> {
    let mut events = Vec::new();
    read(text.as_bytes(), format, |event| events.push(event))?;
    Ok(events)
}

fn calls(text: &str, format: Format) -> (Vec<Call>, Lint) {
    let mut pairing = Pairing::default();
    for event in events(text, format).expect("a sound history") {
        pairing.event(event);
    }
    pairing.finish()
}
