//! Compares the encoder with candle-transformers' on the same tensors.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::t5::{Config, T5EncoderModel};

use crate::common::{encoded, tiny, tiny_folder};

#[test]
fn encoder_states_equal_candle_transformers() {
    let folder = tiny_folder("t5");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    // candle-transformers requires this key, which inference ignores.
    config["initializer_factor"] = 1.0.into();
    config["dropout_rate"] = 0.0.into();
    let config: Config = serde_json::from_value(config).unwrap();
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let mut theirs = T5EncoderModel::load(
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu),
        &config,
    )
    .unwrap();
    let ours = tiny("t5");
    for length in [1_u32, 2, 7, 40, 200] {
        let ids: Vec<u32> = (0..length).map(|index| 3 + (index * 7 + length) % 250).collect();
        let input = Tensor::new(ids.as_slice(), &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let expected = theirs
            .forward(&input)
            .unwrap()
            .squeeze(0)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        let found = ours.encoder_states(&encoded(&ids)).unwrap();
        assert_eq!(found.len(), expected.len());
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "length {length}, row {row}: {found} and {expected}"
                );
            }
        }
    }
}
