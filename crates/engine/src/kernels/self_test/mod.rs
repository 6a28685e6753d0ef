//! A check at start that the chosen instruction set computes what the scalar definition says, on this very machine.
//!
//! All that decoding and prefill use is run on small matrices, both ways, and compared bit for bit. The data are the hardest: the ends
//! of ranges, where sums could overflow, and numbers that are none.

#[cfg(test)]
pub(super) mod broken;
mod data;
mod parts;
#[cfg(test)]
mod tests;

use self::parts::Part;
use super::Isa;
use crate::memory::OutOfMemory;
use crate::pool::Pool;

/// An instruction set that computes something else than the definition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfTestError {
    #[error("self-test failed: {part} on {isa} differs from the scalar definition; try another --isa")]
    Differs { isa: Isa, part: &'static str },
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// Compares the kernels of an instruction set with the scalar definition. Takes some tens of milliseconds.
pub(crate) fn self_test(isa: Isa) -> Result<(), SelfTestError> {
    let mut pool = Pool::single();
    for part in Part::ALL {
        if part.bits(&mut pool, isa)? != part.bits(&mut pool, Isa::SCALAR)? {
            return Err(SelfTestError::Differs { isa, part: part.name() });
        }
    }
    Ok(())
}
