//! What stands in a history that others wrote: EDN's values, and JSON's as a part of them.

use std::fmt;

/// One value. Sets and lists are vectors here; a tagged value is what the tag stands before.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    /// Floats, and ratios and integers that do not fit.
    Float(f64),
    /// A string or character.
    Text(String),
    /// A keyword without its colon, or a symbol.
    Word(String),
    Vector(Vec<Value>),
    /// In the order of the file.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// A map's entry under a keyword, symbol or string.
    pub fn entry(&self, name: &str) -> Option<&Value> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(key, _)| key.word() == Some(name)).map(|(_, value)| value)
    }

    /// What a keyword, symbol or string says.
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) | Self::Text(word) => Some(word),
            _ => None,
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    pub fn vector(&self) -> Option<&[Value]> {
        match self {
            Self::Vector(items) => Some(items),
            _ => None,
        }
    }
}

/// As EDN.
impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => out.write_str("nil"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Int(value) => write!(out, "{value}"),
            Self::Float(value) if value.is_nan() => out.write_str("##NaN"),
            Self::Float(value) if value.is_infinite() => {
                out.write_str(if *value > 0.0 { "##Inf" } else { "##-Inf" })
            }
            Self::Float(value) => write!(out, "{value:?}"),
            Self::Text(text) => quoted(text, out),
            Self::Word(word) => write!(out, ":{word}"),
            Self::Vector(items) => {
                out.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(out, "{}{item}", if at == 0 { "" } else { " " })?;
                }
                out.write_str("]")
            }
            Self::Map(entries) => {
                out.write_str("{")?;
                for (at, (key, value)) in entries.iter().enumerate() {
                    write!(out, "{}{key} {value}", if at == 0 { "" } else { ", " })?;
                }
                out.write_str("}")
            }
        }
    }
}

fn quoted(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    out.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c))?,
            c => write!(out, "{c}")?,
        }
    }
    out.write_str("\"")
}
