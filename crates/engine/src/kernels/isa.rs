//! The processor's instruction sets.

/// Instructions that kernels may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa {
    pub(super) level: Level,
    /// `vpdpbusd` on 512 bits.
    pub(super) vnni: bool,
    /// `vdpbf16ps`.
    pub(super) bf16: bool,
    /// AMX, the matrix unit.
    pub(super) amx: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Portable,
    Avx2,
    Avx512,
}

impl Isa {
    /// Detects this processor's instructions. Cheap to call.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq");
            if avx512 {
                return Self {
                    level: Level::Avx512,
                    vnni: is_x86_feature_detected!("avx512vnni"),
                    bf16: is_x86_feature_detected!("avx512bf16"),
                    amx: super::amx::is_usable(),
                };
            }
            if avx2 {
                return Self {
                    level: Level::Avx2,
                    vnni: false,
                    bf16: false,
                    amx: false,
                };
            }
        }
        Self::portable()
    }

    /// Returns the baseline that every processor has.
    pub fn portable() -> Self {
        Self {
            level: Level::Portable,
            vnni: false,
            bf16: false,
            amx: false,
        }
    }

    /// Returns this processor's instructions without AVX-512.
    pub fn avx2_or_less() -> Self {
        let found = Self::detect();
        Self {
            level: found.level.min(Level::Avx2),
            vnni: false,
            bf16: false,
            amx: false,
        }
    }

    /// Returns this processor's instructions without AMX.
    pub fn without_amx() -> Self {
        Self {
            amx: false,
            ..Self::detect()
        }
    }

    /// Returns `avx512`, `avx2` or `portable`, with extensions after a `+`.
    pub fn name(self) -> &'static str {
        match (self.level, self.vnni, self.bf16, self.amx) {
            (Level::Portable, ..) => "portable",
            (Level::Avx2, ..) => "avx2",
            (Level::Avx512, true, true, true) => "avx512+vnni+bf16+amx",
            (Level::Avx512, _, _, true) => "avx512+amx",
            (Level::Avx512, true, true, false) => "avx512+vnni+bf16",
            (Level::Avx512, true, false, false) => "avx512+vnni",
            (Level::Avx512, false, true, false) => "avx512+bf16",
            (Level::Avx512, false, false, false) => "avx512",
        }
    }
}
