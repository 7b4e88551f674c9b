//! A shared block of bytes, counted in one word: the standard library's counts take two, which for the blocks of a few dozen
//! bytes that small values are made of is the difference to the next size of the allocator.

use triomphe::Arc;

/// What the count of owners takes beside the bytes.
const COUNT_BYTES: usize = size_of::<usize>();

/// The block. A clone shares it. (Never null, so that enums around it need no word of their own.)
#[derive(Clone, Debug)]
pub struct Block(Arc<[u8]>);

impl Block {
    /// A block of `len` bytes, zero but for what `fill` writes: one exact allocation.
    pub fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        // The length of a repetition is known, so that this allocates once.
        let mut block: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
        if let Some(bytes) = Arc::get_mut(&mut block) {
            fill(bytes);
        }
        Self(block)
    }

    /// The bytes, if nobody shares them.
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.0)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.len() + COUNT_BYTES
    }
}

impl Default for Block {
    fn default() -> Self {
        Self::filled(0, |_| ())
    }
}

impl From<&[u8]> for Block {
    fn from(bytes: &[u8]) -> Self {
        Self::filled(bytes.len(), |block| block.copy_from_slice(bytes))
    }
}

impl std::ops::Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
