//! What one rendering may cost.

use std::cell::Cell;

use super::Failure;

/// Work between two looks at whether anybody still waits.
const LOOK: u64 = 1 << 22;

/// The work of a step that touches no text, in bytes of text that take as long to read.
const STEP: u64 = 64;

/// Counts what a rendering does and makes, and ends it when that is too much.
///
/// Memory is counted where it is taken and never given back: what a template makes and drops again took time to make, and a
/// bound of all that is made is also one of all that exists.
pub(crate) struct Meter<'w> {
    work: Cell<u64>,
    memory: Cell<u64>,
    looked: Cell<u64>,
    wanted: &'w dyn Fn() -> bool,
}

impl<'w> Meter<'w> {
    /// A rendering that may read so many bytes of text, make so many bytes of values, and goes on while it is `wanted`.
    pub(crate) fn new(work: u64, memory: u64, wanted: &'w dyn Fn() -> bool) -> Self {
        Self { work: Cell::new(work), memory: Cell::new(memory), looked: Cell::new(work), wanted }
    }

    pub(crate) fn step(&self) -> Result<(), Failure> {
        self.spend(STEP)
    }

    /// So many bytes are read, compared or searched.
    pub(crate) fn read(&self, bytes: usize) -> Result<(), Failure> {
        self.spend(bytes as u64)
    }

    /// So many bytes are made. To be called before they are.
    pub(crate) fn make(&self, bytes: usize) -> Result<(), Failure> {
        let left = self.memory.get().checked_sub(bytes as u64);
        self.memory.set(left.ok_or_else(|| Failure::invalid("it makes too much out of these messages"))?);
        self.spend(bytes as u64)
    }

    fn spend(&self, work: u64) -> Result<(), Failure> {
        let left = self.work.get().checked_sub(work);
        let left = left.ok_or_else(|| Failure::invalid("it takes too long for these messages"))?;
        self.work.set(left);
        if self.looked.get() - left >= LOOK {
            self.looked.set(left);
            if !(self.wanted)() {
                return Err(Failure::Abandoned);
            }
        }
        Ok(())
    }
}
