//! Which instructions the kernels may use, decided once at run time.

use std::fmt;

use super::lanes::Simd;
use super::scalar::Scalar;
#[cfg(test)]
use super::self_test::broken::{Broken, Operation};
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::{Avx2, AvxVnni},
    avx512::Avx512,
};

/// An instruction set. Holding a value other than scalar proves that this CPU has it: only [`Isa::available`] builds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(test)]
    Broken(Broken),
}

/// An instruction set that was asked for by name and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("instruction set {name:?} cannot be used on this CPU; available: {available}")]
pub struct UnavailableIsa {
    name: String,
    available: String,
}

impl Isa {
    /// Portable code: the definition of every kernel.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// All that this CPU has, the slowest (scalar) first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(|token| Self(Kind::Avx2(token))));
            all.extend(AvxVnni::detect().map(|token| Self(Kind::AvxVnni(token))));
            all.extend(Avx512::detect().map(|token| Self(Kind::Avx512(token))));
        }
        all
    }

    /// The fastest that this CPU has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self::SCALAR)
    }

    /// The one called `scalar`, `avx2`, `avxvnni` or `avx512`.
    pub fn named(name: &str) -> Result<Self, UnavailableIsa> {
        let available = Self::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| UnavailableIsa {
            name: name.to_owned(),
            available: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The name that [`Isa::named`] knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(test)]
            Kind::Broken(_) => "broken",
        }
    }

    /// Portable code with a fault.
    #[cfg(test)]
    pub(super) fn broken(operation: Option<Operation>) -> Self {
        Self(Kind::Broken(Broken(operation)))
    }

    /// Whether adding looked-up sums is faster than multiplying many tokens: where no instruction multiplies four int8 a lane.
    pub(super) fn looks_up(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => true,
            _ => false,
        }
    }

    /// Runs the version of `kernel` that was compiled for this instruction set.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Scalar => kernel.run(Scalar),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(token) => token.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni(token) => token.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(token) => token.vectorize(kernel),
            #[cfg(test)]
            Kind::Broken(broken) => kernel.run(broken),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A computation written once over the operations of [`Simd`] and compiled once for each instruction set.
///
/// `run` must be `#[inline(always)]`: only then is it compiled with the instructions of its caller.
pub(super) trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
