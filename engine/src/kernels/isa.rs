//! Which instructions this processor has.

/// Instructions that kernels may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa {
    pub(super) level: Level,
    /// `vpdpbusd` on 512 bits.
    pub(super) vnni: bool,
    /// `vdpbf16ps`.
    pub(super) bf16: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Portable,
    Avx2,
    Avx512,
}

impl Isa {
    /// What this processor has. Asking is cheap.
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
                };
            }
            if avx2 {
                return Self {
                    level: Level::Avx2,
                    vnni: false,
                    bf16: false,
                };
            }
        }
        Self::portable()
    }

    /// Nothing that not every processor has.
    pub fn portable() -> Self {
        Self {
            level: Level::Portable,
            vnni: false,
            bf16: false,
        }
    }

    /// What this processor has, AVX-512 left out.
    pub fn avx2_or_less() -> Self {
        let found = Self::detect();
        Self {
            level: found.level.min(Level::Avx2),
            vnni: false,
            bf16: false,
        }
    }

    /// `avx512`, `avx2` or `portable`; after a `+` what AVX-512 has besides.
    pub fn name(self) -> &'static str {
        match (self.level, self.vnni, self.bf16) {
            (Level::Portable, ..) => "portable",
            (Level::Avx2, ..) => "avx2",
            (Level::Avx512, true, true) => "avx512+vnni+bf16",
            (Level::Avx512, true, false) => "avx512+vnni",
            (Level::Avx512, false, true) => "avx512+bf16",
            (Level::Avx512, false, false) => "avx512",
        }
    }
}
