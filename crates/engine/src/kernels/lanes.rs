//! Compiles one source for several instruction sets, and sums in a fixed order that vector instructions can keep.
//!
//! `versions!` compiles a portable body three times: for the baseline, AVX2 and AVX-512. Bodies work on arrays of
//! [`LANES`] elements, which the compiler maps to the available registers. Results are bit-identical everywhere,
//! because nothing is contracted to FMA and every order is explicit.
#![allow(unsafe_code)]

/// Elements per lane array.
pub(super) const LANES: usize = 16;

/// Defines `name(isa, …)` from the portable, `#[inline(always)]` function `body(…)`.
macro_rules! versions {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $body:path) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, unsafe_code)]
        $vis fn $name(isa: $crate::kernels::Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
                fn avx512($($arg: $type),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                match isa.level {
                    // SAFETY: an `Isa` of this level exists only if the processor has these features.
                    $crate::kernels::isa::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::isa::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::isa::Level::Portable => {}
                }
            }
            $body($($arg),*)
        }
    };
}
pub(super) use versions;

/// Sums lanes, halves first.
#[inline(always)]
pub(super) fn sum(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|index| lanes[index] + lanes[index + 8]);
    let four: [f32; 4] = std::array::from_fn(|index| eight[index] + eight[index + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Folds values into lanes: lane `i` gets the values at `i`, `i + LANES`, …
#[inline(always)]
pub(super) fn fold(values: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut lanes = [start; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, *value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, *value);
    }
    lanes
}

/// Returns the larger value, or the second if the first is NaN.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Returns the largest value. Treats NaN as `larger` does.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    fold(values, f32::NEG_INFINITY, larger)
        .into_iter()
        .fold(f32::NEG_INFINITY, larger)
}

/// Computes exp(x) for x ≤ 0 (and slightly above) with a relative error below 3e-7; 0 below -87. Cody and Waite: x =
/// n·ln 2 + r, a polynomial in r, and the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// 1.5 · 2^23: adding it rounds to an integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let clamped = if clamped < 88.0 { clamped } else { 88.0 };
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3F80_0000));
    if x > -87.0 { y * power } else { 0.0 }
}

/// Rounds to bfloat16, ties to even. NaN stays NaN.
#[inline(always)]
pub(super) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1))) >> 16;
    let quiet = (bits >> 16) | 0x40;
    let chosen = if bits & 0x7FFF_FFFF > 0x7F80_0000 {
        quiet
    } else {
        rounded
    };
    chosen as u16
}

/// Converts bfloat16 to f32.
#[inline(always)]
pub(super) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
