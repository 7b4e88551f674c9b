//! Values of any kind as the numbers that checkers take.

use std::collections::BTreeMap;

use super::value::Value;

/// Whole numbers from zero stand for themselves; everything else gets a number of its own far above them.
#[derive(Debug, Default)]
pub(super) struct Values {
    others: BTreeMap<String, u64>,
}

/// Leaves room below the checkers' own marks at the top.
const OTHERS: u64 = 1 << 63;

impl Values {
    pub fn number(&mut self, value: &Value) -> u64 {
        if let Value::Int(int) = value
            && let Ok(number) = u64::try_from(*int)
        {
            return number;
        }
        let next = OTHERS + self.others.len() as u64;
        *self.others.entry(value.to_string()).or_insert(next)
    }

    /// The values that are no plain numbers, by the number that stands for them in sentences.
    pub fn legend(&self) -> impl Iterator<Item = (u64, &str)> {
        self.others.iter().map(|(text, number)| (*number, text.as_str()))
    }
}
