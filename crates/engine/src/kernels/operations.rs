//! How the methods of an instruction set's token are written: each is a few intrinsics.

/// Methods that are one expression of intrinsics.
macro_rules! operations {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty { $($body:tt)* })*) => {
        $(
            #[inline(always)]
            fn $name(self, $($argument: $type),*) -> $output {
                // SAFETY: holding the token proves that the CPU has the instructions; references are valid for their size.
                unsafe { $($body)* }
            }
        )*
    };
}

pub(super) use operations;
