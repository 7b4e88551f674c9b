//! JSON lines: one run a line, as in its `outcome.json`.

use crate::campaign::night::StoredNight;

/// All runs of a night.
pub fn runs(night: &StoredNight) -> serde_json::Result<String> {
    let mut text = String::new();
    for outcome in &night.outcomes {
        text.push_str(&serde_json::to_string(outcome)?);
        text.push('\n');
    }
    Ok(text)
}
