//! The self-test lets nothing pass that is wrong.

use super::broken::Operation;
use super::*;

#[test]
fn every_available_instruction_set_passes() {
    for isa in Isa::available() {
        self_test(isa).unwrap();
    }
}

#[test]
fn one_wrong_bit_of_any_operation_is_noticed() {
    use Operation::{
        Abs, Add, Div, DotCodes, DotFew, DotTiles, Exp2Integral, LoadF16, LoadI32, Max, Min, Mul, MulAdd,
        Round, Splat, Store, StoreI8, Sub, Unpack,
    };
    self_test(Isa::broken(None)).unwrap();
    let floats = [
        Splat,
        LoadF16,
        LoadI32,
        Store,
        Add,
        Sub,
        Mul,
        Div,
        MulAdd,
        Max,
        Min,
        Abs,
        Round,
        Exp2Integral,
        StoreI8,
    ];
    let products = (1..=6)
        .flat_map(|tokens| [Operation::DotUnpacked(tokens, 1), Operation::DotUnpacked(tokens, 2)])
        .chain((2..=8).map(DotFew))
        .chain((1..=8).map(DotCodes))
        .chain([DotTiles, Unpack]);
    for operation in floats.into_iter().chain(products) {
        let error = self_test(Isa::broken(Some(operation))).expect_err("a wrong bit");
        assert!(matches!(error, SelfTestError::Differs { .. }), "{operation:?}: {error}");
    }
}

/// A part that computed nothing, or what does not depend on the kernels, would always agree.
#[test]
fn each_part_notices_what_it_is_there_for() {
    let mut pool = Pool::single();
    for (part, operation) in [
        (Part::Lanes, Operation::Exp2Integral),
        (Part::Norm, Operation::StoreI8),
        (Part::Norm, Operation::Mul),
        (Part::OneRow, Operation::DotTiles),
        (Part::OneRow, Operation::Div),
        (Part::FewRows, Operation::DotFew(8)),
        (Part::ManyRows, Operation::DotUnpacked(6, 2)),
        (Part::ManyRows, Operation::DotUnpacked(5, 1)),
        (Part::Attention(crate::kernels::CacheType::F16), Operation::LoadF16),
        (Part::Attention(crate::kernels::CacheType::F32), Operation::Exp2Integral),
        (Part::FloatRows, Operation::LoadF16),
        (Part::Int8, Operation::DotCodes(8)),
        (Part::Search, Operation::LoadF16),
        (Part::Search, Operation::StoreI8),
        (Part::Search, Operation::DotCodes(3)),
    ] {
        let right = part.bits(&mut pool, Isa::SCALAR).unwrap();
        assert!(!right.is_empty(), "{part:?}");
        let wrong = part.bits(&mut pool, Isa::broken(Some(operation))).unwrap();
        assert!(right != wrong, "{part:?} without {operation:?}");
    }
}
