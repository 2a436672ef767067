//! Rotary position embeddings (RoPE) and their scalings, as transformers computes them.

use serde_json::Value;

use crate::model::Angles;

/// How positions are encoded in a layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeConfig {
    /// Base of the frequencies.
    theta: f64,
    scaling: Scaling,
}

/// How the frequencies are changed for long contexts.
#[derive(Debug, Clone, PartialEq)]
enum Scaling {
    None,
    /// All frequencies are divided by a factor.
    Linear(f64),
    /// Llama 3: low frequencies are divided, high ones are kept.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// YaRN (Peng et al. 2023, <https://arxiv.org/abs/2309.00071>).
    Yarn {
        factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        original: f64,
        truncate: bool,
        /// Factor of the angles' cosines and sines.
        attention: f64,
    },
    /// Each frequency has its own divisor, as GGUF files store the scaling of Llama 3.
    Divisors(Vec<f64>),
}

impl RopeConfig {
    /// Returns unscaled positions.
    pub(crate) fn plain(theta: f64) -> Self {
        Self {
            theta,
            scaling: Scaling::None,
        }
    }

    /// Parses `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5). `theta` is the base if the object
    /// names none.
    ///
    /// # Errors
    /// An unknown kind, or a missing or invalid number, in words.
    pub(crate) fn parse(value: &Value, theta: f64, max_positions: usize) -> Result<Self, String> {
        if value.is_null() {
            return Ok(Self::plain(theta));
        }
        let number = |name: &str| value.get(name).and_then(Value::as_f64);
        let needed = |name: &str| {
            number(name)
                .filter(|number| number.is_finite() && *number > 0.0)
                .ok_or_else(|| format!("the RoPE scaling needs a positive {name}"))
        };
        if number("partial_rotary_factor").is_some_and(|factor| factor != 1.0) {
            return Err("partial_rotary_factor is not supported".to_owned());
        }
        let kind = value.get("rope_type").or_else(|| value.get("type"));
        let kind = kind.and_then(Value::as_str).unwrap_or("default");
        let original = number("original_max_position_embeddings").unwrap_or(max_positions as f64);
        let scaling = match kind {
            // The dynamic scaling begins beyond the context that the model was trained for, which is the limit here.
            "default" | "dynamic" => Scaling::None,
            "linear" => Scaling::Linear(needed("factor")?),
            "llama3" => Scaling::Llama3 {
                factor: needed("factor")?,
                low: needed("low_freq_factor")?,
                high: needed("high_freq_factor")?,
                original: needed("original_max_position_embeddings")?,
            },
            "yarn" => {
                let factor = needed("factor")?;
                let mscale = |factor: f64, scale: f64| match factor > 1.0 {
                    true => 0.1 * scale * factor.ln() + 1.0,
                    false => 1.0,
                };
                let attention = match (number("mscale"), number("mscale_all_dim")) {
                    (Some(one), Some(all)) if one != 0.0 && all != 0.0 => {
                        mscale(factor, one) / mscale(factor, all)
                    }
                    _ => mscale(factor, 1.0),
                };
                Scaling::Yarn {
                    factor,
                    beta_fast: number("beta_fast").unwrap_or(32.0),
                    beta_slow: number("beta_slow").unwrap_or(1.0),
                    original,
                    truncate: value.get("truncate").and_then(Value::as_bool).unwrap_or(true),
                    attention: number("attention_factor").unwrap_or(attention),
                }
            }
            "divisors" => {
                let divisors = value.get("divisors").and_then(Value::as_array);
                let divisors: Option<Vec<f64>> =
                    divisors.and_then(|all| all.iter().map(Value::as_f64).collect());
                Scaling::Divisors(divisors.ok_or("the RoPE divisors are not numbers")?)
            }
            kind => return Err(format!("the RoPE scaling {kind:?} is not supported")),
        };
        let theta = number("rope_theta").unwrap_or(theta);
        match theta.is_finite() && theta > 1.0 {
            true => Ok(Self { theta, scaling }),
            false => Err(format!("rope_theta is {theta}")),
        }
    }

    /// Returns the angles of the positions below `positions`, for heads of `width` elements.
    pub(crate) fn angles(&self, width: usize, positions: usize) -> Angles {
        let frequencies = self.frequencies(width);
        let factor = match self.scaling {
            Scaling::Yarn { attention, .. } => attention,
            _ => 1.0,
        };
        let mut angles = Angles {
            cos: Vec::with_capacity(positions * frequencies.len()),
            sin: Vec::with_capacity(positions * frequencies.len()),
            half: frequencies.len(),
        };
        for position in 0..positions {
            for frequency in &frequencies {
                // The product is rounded to f32, as in transformers.
                let angle = f64::from(position as f32 * frequency);
                angles.cos.push((angle.cos() * factor) as f32);
                angles.sin.push((angle.sin() * factor) as f32);
            }
        }
        angles
    }

    /// Returns radians per position of each pair of elements.
    fn frequencies(&self, width: usize) -> Vec<f32> {
        let half = width / 2;
        let exponent = |index: usize| 2.0 * index as f64 / width as f64;
        let plain: Vec<f64> = (0..half).map(|index| self.theta.powf(-exponent(index))).collect();
        let scaled: Vec<f64> = match &self.scaling {
            Scaling::None => plain,
            Scaling::Linear(factor) => plain.iter().map(|plain| plain / factor).collect(),
            Scaling::Divisors(divisors) => {
                let divisors = divisors.iter().copied().chain(std::iter::repeat(1.0));
                plain.iter().zip(divisors).map(|(plain, by)| plain / by).collect()
            }
            Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let scale = |plain: &f64| {
                    let wave = std::f64::consts::TAU / plain;
                    let smooth = (original / wave - low) / (high - low);
                    if wave < original / high {
                        *plain
                    } else if wave > original / low {
                        plain / factor
                    } else {
                        (1.0 - smooth) * plain / factor + smooth * plain
                    }
                };
                plain.iter().map(scale).collect()
            }
            Scaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original,
                truncate,
                ..
            } => {
                let dimension = |rotations: f64| {
                    width as f64 * (original / (rotations * std::f64::consts::TAU)).ln()
                        / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(width as f64 - 1.0));
                // As transformers avoids a division by zero.
                let span = if low == high { 0.001 } else { high - low };
                let scale = |(index, plain): (usize, &f64)| {
                    let ramp = ((index as f64 - low) / span).clamp(0.0, 1.0);
                    plain / factor * ramp + plain * (1.0 - ramp)
                };
                plain.iter().enumerate().map(scale).collect()
            }
        };
        scaled.into_iter().map(|frequency| frequency as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers pass literals")]
    fn frequencies(value: Value) -> Vec<f32> {
        RopeConfig::parse(&value, 10_000.0, 4096).unwrap().frequencies(8)
    }

    #[test]
    fn scalings_change_frequencies() {
        let plain = frequencies(Value::Null);
        assert_eq!(plain, [1.0, 0.1, 0.01, 0.001]);
        assert_eq!(frequencies(json!({"rope_type": "dynamic", "factor": 4.0})), plain);
        let linear = frequencies(json!({"type": "linear", "factor": 4.0}));
        assert_eq!(linear, [0.25, 0.025, 0.0025, 0.00025]);
        let llama = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 512});
        let llama = frequencies(llama);
        assert_eq!((llama[0], llama[1], llama[3]), (1.0, 0.1, 0.001 / 8.0));
        // 512 / (2π / 0.01) is below the low factor too.
        assert_eq!(llama[2], 0.01 / 8.0);
    }

    #[test]
    fn unknown_or_incomplete_scalings_are_refused() {
        let error = |value: Value| RopeConfig::parse(&value, 10_000.0, 4096).unwrap_err();
        assert!(error(json!({"rope_type": "longrope"})).contains("longrope"));
        assert!(error(json!({"partial_rotary_factor": 0.5})).contains("partial_rotary_factor"));
        assert!(error(json!({"rope_type": "linear"})).contains("factor"));
        assert!(error(json!({"rope_type": "linear", "factor": -1})).contains("factor"));
        assert!(error(json!({"rope_type": "default", "rope_theta": 0})).contains("rope_theta"));
    }
}
