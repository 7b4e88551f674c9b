//! What is wrong with a history that others wrote, and where.

/// Malformed input. Lines and columns count from 1; columns count characters.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    #[error("line {line}, column {column}: expected {expected}, found {found}")]
    Syntax { line: u64, column: u64, expected: String, found: String },
    #[error("line {line}: {source}")]
    Io { line: u64, source: std::io::Error },
    #[error("the history holds no operation: expected {expected}")]
    Empty { expected: &'static str },
}
