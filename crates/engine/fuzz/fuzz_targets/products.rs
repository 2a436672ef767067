//! Products of any shape over any values. Nothing is read or written out of bounds, every instruction set equals the
//! portable code, and a row does not depend on its neighbours.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use precis_engine_fuzz::kernels::{Activations, Epilogue, PackedWeights, Precision, product, product_columns};
use precis_engine_fuzz::{isas, numbers};

#[derive(Debug, Arbitrary)]
struct Case {
    rows: u8,
    inputs: u16,
    outputs: u16,
    epilogue: u8,
    values: Vec<f32>,
    weights: Vec<f32>,
}

fuzz_target!(|case: Case| {
    let (count, inputs) = (usize::from(case.rows % 24), 1 + usize::from(case.inputs % 700));
    let outputs = 1 + usize::from(case.outputs % 200);
    let rows = numbers(&case.values, count * inputs);
    let weights = numbers(&case.weights, inputs * outputs);
    let epilogue = [Epilogue::Store, Epilogue::Add, Epilogue::Relu][usize::from(case.epilogue % 3)];
    let tame = rows.iter().chain(&weights).all(|value| value.abs() < 1e6);
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let packed = PackedWeights::pack(precision, inputs, &[&weights]);
        let mut first: Option<Vec<f32>> = None;
        for isa in isas() {
            let mut activations = Activations::default();
            activations.fill(isa, precision, &rows, inputs);
            let mut out = vec![1.0; count * outputs];
            product(isa, &activations, &packed, epilogue, &mut out);
            if outputs > 64 {
                let mut part = vec![0.0; count * (outputs - 64)];
                product_columns(isa, &activations, &packed, 64..outputs, &mut part);
            }
            if count > 1 {
                activations.fill(isa, precision, &rows[(count - 1) * inputs..], inputs);
                let mut alone = vec![1.0; outputs];
                product(isa, &activations, &packed, epilogue, &mut alone);
                for (alone, together) in alone.iter().zip(&out[(count - 1) * outputs..]) {
                    assert!(alone.to_bits() == together.to_bits() || alone.is_nan() && together.is_nan());
                }
            }
            let first = first.get_or_insert_with(|| out.clone());
            if tame && precision == Precision::Int8 {
                assert!(first.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }
});
