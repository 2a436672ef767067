//! Products with AMX, the matrix unit: one instruction multiplies two tiles of 16 rows of 64 bytes (`tdpbusd` for 8-bit
//! integers, `tdpbf16ps` for bf16).
//!
//! Four tiles hold the sums. With more than 16 rows, a pass multiplies 32 rows by half a panel, so that every loaded
//! tile is used twice. Otherwise it multiplies all rows by a whole panel. Panels have the layout that the unit needs: a
//! tile line holds the weights of 16 outputs, of four (int8) or two (bf16) inputs each.
//!
//! The compiler does not know about tile registers, so each pass is one assembly block, from zeroing its sums to
//! storing them. Reference: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;
use std::sync::OnceLock;

use super::PANEL;
use super::avx512::{put, put_scaled};
use super::product::{Rows, Scales, Target, tiles};

/// Rows of a tile.
const TILE: usize = 16;
/// Bytes of a tile line, and of a row per inner step.
const LINE: usize = 64;
/// Bytes between lines of a panel's tile: 64 outputs of four bytes.
const PANEL_LINE: usize = 4 * PANEL;
/// 32-bit sums of 32 rows.
const SUMS: usize = 2 * TILE * PANEL;

/// Minimum rows of 8-bit integers for which AMX is faster than `vpdpbusd`. Both give the same sums. bf16 sums differ
/// between the two, so AMX takes any number of bf16 rows.
pub(super) const LEAST_INT8_ROWS: usize = 5;

/// Returns whether the processor has AMX and the system lets this process use it. The answer is cached.
pub(super) fn is_usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| has_instructions() && is_permitted())
}

fn has_instructions() -> bool {
    /// Bits of CPUID leaf 7: tiles, bf16 products, 8-bit integer products.
    const EDX: u32 = 1 << 24 | 1 << 22 | 1 << 25;
    // Newer standard libraries declare the function safe.
    #[allow(unused_unsafe)]
    // SAFETY: every x86-64 processor has CPUID, and leaf 7 was checked to exist.
    unsafe {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & EDX == EDX
    }
}

/// Linux grants AMX on request only, because its 8 KiB of registers need larger signal stacks. It refuses if it does
/// not save the registers.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two integers and changes only this process's permissions.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// Returns whether rows of this many bytes are whole tile lines. The number of rows plays no part, so that a row's
/// result does not depend on its neighbours.
pub(super) fn fits(bytes: usize) -> bool {
    bytes > 0 && bytes.is_multiple_of(LINE)
}

/// Tile configuration: the operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Shape {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    line_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shape {
    /// Returns the configuration of a pass over `first` and `second` rows, at most 16 each. With `second` 0, one tile
    /// of rows is multiplied by four of a panel.
    fn of(first: usize, second: usize) -> Self {
        let (first, second) = (first as u8, second as u8);
        let whole = TILE as u8;
        let rows = match second {
            0 => [first, first, first, first, first, whole, whole, whole],
            _ => [first, first, second, second, first, second, whole, whole],
        };
        let mut shape = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            line_bytes: [0; 16],
            rows: [0; 16],
        };
        shape.rows[..8].copy_from_slice(&rows);
        shape.line_bytes[..8].fill(LINE as u16);
        shape
    }
}

thread_local! {
    /// This thread's configuration: rows of the first and second tile of a pass.
    static CONFIGURED: Cell<(usize, usize)> = const { Cell::new(UNCONFIGURED) };
}

/// The configuration of released tiles.
const UNCONFIGURED: (usize, usize) = (0, 0);

/// Configures this thread's tiles unless they already match: configuring costs about ten tile products.
///
/// # Safety
/// AMX is usable, `first` is 1 to 16 and `second` at most 16.
#[inline]
unsafe fn shape(first: usize, second: usize) {
    if CONFIGURED.get() != (first, second) {
        let shape = Shape::of(first, second);
        // SAFETY: a palette 1 configuration of eight tiles of at most 16 rows of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shape, options(nostack, readonly)) };
        CONFIGURED.set((first, second));
    }
}

/// Releases this thread's tiles, if configured, so that context switches need not save them. Products leave them
/// configured for the next product.
pub(super) fn release() {
    if CONFIGURED.replace(UNCONFIGURED) != UNCONFIGURED {
        // SAFETY: the thread has configured tiles, so AMX is usable, and their contents are no longer needed.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

/// Sums of 32 rows by 64 outputs, as 32-bit words.
#[repr(C, align(64))]
struct Sums([u32; SUMS]);

/// Operands of a pass.
#[derive(Clone, Copy)]
struct Pass {
    /// Pointer to the first row.
    rows: *const u8,
    /// Bytes from one row to the next.
    stride: usize,
    panel: *const u8,
    /// Tile lines per row.
    steps: usize,
}

/// Prefetches the panel lines that start `$parts` bytes into each 256 of the next step. The hardware prefetcher does
/// not predict them, because panels are read tile by tile.
macro_rules! near {
    ($parts:literal) => {
        concat!(
            ".irp row, 0, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 2560, 2816, 3072, 3328, 3584, 3840\n",
            ".irp part, ", $parts, "\n",
            "prefetcht0 [{panel} + 4096 + \\row + \\part]\n",
            ".endr\n",
            ".endr"
        )
    };
}

/// Both kinds of passes for one instruction.
macro_rules! passes {
    ($narrow:ident, $wide:ident, $dot:literal) => {
        /// Multiplies up to 16 rows by a panel.
        ///
        /// # Safety
        /// AMX is usable, rows and panel have `steps` lines, and the tiles are configured for the pass.
        #[inline]
        unsafe fn $narrow(pass: Pass, sums: &mut Sums) {
            // SAFETY: the caller guarantees `steps` lines in rows and panel. `sums` holds 16 rows.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    near!("0, 64, 128, 192"),
                    "tileloadd tmm4, [{rows} + {stride}*1]",
                    "tileloadd tmm5, [{panel} + {line}*1]",
                    "tileloadd tmm6, [{panel} + {line}*1 + 64]",
                    "tileloadd tmm7, [{panel} + {line}*1 + 128]",
                    concat!($dot, " tmm0, tmm4, tmm5"),
                    "tileloadd tmm5, [{panel} + {line}*1 + 192]",
                    concat!($dot, " tmm1, tmm4, tmm6"),
                    concat!($dot, " tmm2, tmm4, tmm7"),
                    concat!($dot, " tmm3, tmm4, tmm5"),
                    "add {rows}, 64",
                    "add {panel}, 4096",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{sums} + {line}*1], tmm0",
                    "tilestored [{sums} + {line}*1 + 64], tmm1",
                    "tilestored [{sums} + {line}*1 + 128], tmm2",
                    "tilestored [{sums} + {line}*1 + 192], tmm3",
                    rows = inout(reg) pass.rows => _,
                    stride = in(reg) pass.stride,
                    panel = inout(reg) pass.panel => _,
                    line = in(reg) PANEL_LINE,
                    steps = inout(reg) pass.steps => _,
                    sums = in(reg) sums.0.as_mut_ptr(),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }

        /// Multiplies 17 to 32 rows by half a panel. `sums` points to the sums of the first row.
        ///
        /// # Safety
        /// As above, and there is room for half of the sums of 32 rows.
        #[inline]
        unsafe fn $wide(pass: Pass, sums: *mut u32) {
            // SAFETY: reads lines of rows and panel, writes half of the sums of 32 rows and the tiles.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    near!("0, 64"),
                    "tileloadd tmm6, [{panel} + {line}*1]",
                    "tileloadd tmm4, [{first} + {stride}*1]",
                    "tileloadd tmm7, [{panel} + {line}*1 + 64]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm5, [{second} + {stride}*1]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "add {first}, 64",
                    "add {second}, 64",
                    "add {panel}, 4096",
                    "dec {steps}",
                    "jnz 2b",
                    "tilestored [{sums} + {line}*1], tmm0",
                    "tilestored [{sums} + {line}*1 + 64], tmm1",
                    "tilestored [{lower} + {line}*1], tmm2",
                    "tilestored [{lower} + {line}*1 + 64], tmm3",
                    first = inout(reg) pass.rows => _,
                    second = inout(reg) pass.rows.wrapping_add(TILE * pass.stride) => _,
                    stride = in(reg) pass.stride,
                    panel = inout(reg) pass.panel => _,
                    line = in(reg) PANEL_LINE,
                    steps = inout(reg) pass.steps => _,
                    sums = in(reg) sums,
                    lower = in(reg) sums.wrapping_add(TILE * PANEL),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

passes!(int8_narrow, int8_wide, "tdpbusd");
passes!(bf16_narrow, bf16_wide, "tdpbf16ps");

/// Benchmark loops of a single instruction.
macro_rules! peaks {
    ($name:ident, $dot:literal) => {
        /// Runs `steps` steps of four full tile products each.
        ///
        /// # Safety
        /// AMX is usable, and `steps` is at least 1.
        pub(super) unsafe fn $name(steps: usize) {
            let ones = Sums([0x0101_0101; SUMS]);
            // SAFETY: reads 16 of 32 lines of 256 bytes; everything else is in configured tiles.
            unsafe {
                shape(TILE, TILE);
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "tileloadd tmm4, [{ones} + {line}*1]",
                    "tileloadd tmm5, [{ones} + {line}*1]",
                    "tileloadd tmm6, [{ones} + {line}*1]",
                    "tileloadd tmm7, [{ones} + {line}*1]",
                    "2:",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7"),
                    "dec {steps}",
                    "jnz 2b",
                    steps = inout(reg) steps => _,
                    ones = in(reg) ones.0.as_ptr(),
                    line = in(reg) PANEL_LINE,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(readonly, nostack),
                );
            }
            release();
        }
    };
}

peaks!(int8_peak, "tdpbusd");
peaks!(bf16_peak, "tdpbf16ps");

/// Multiplies all rows by a panel. Calls `done` with the sums of up to 32 rows, the index of the first, and their
/// number.
///
/// # Safety
/// AMX is usable; `count` rows and the panel have `steps` lines each.
#[inline(always)]
unsafe fn blocks(
    pass: Pass,
    count: usize,
    narrow: unsafe fn(Pass, &mut Sums),
    wide: unsafe fn(Pass, *mut u32),
    mut done: impl FnMut(&Sums, usize, usize),
) {
    let mut sums = Sums([0; SUMS]);
    // Passes of equal height where possible, because another height reconfigures the tiles.
    for (first, rows) in tiles(count, 2 * TILE) {
        let second = rows.saturating_sub(TILE);
        let pass = Pass {
            rows: pass.rows.wrapping_add(first * pass.stride),
            ..pass
        };
        // SAFETY: all of these rows exist, and the tiles are configured for them.
        unsafe {
            shape(rows.min(TILE), second);
            if second == 0 {
                narrow(pass, &mut sums);
            } else {
                wide(pass, sums.0.as_mut_ptr());
                let right = Pass {
                    panel: pass.panel.wrapping_add(2 * LINE),
                    ..pass
                };
                wide(right, sums.0.as_mut_ptr().add(PANEL / 2));
            }
        }
        done(&sums, first, rows);
    }
}

/// # Safety
/// AMX is usable, the processor has AVX-512F, and rows are whole lines. `product.rs` checked the lengths.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn bf16_panel(rows: Rows<'_, u16>, panel: &[u16], target: &mut Target<'_>) {
    let pass = Pass {
        rows: rows.values.as_ptr().cast(),
        stride: 2 * rows.stride,
        panel: panel.as_ptr().cast(),
        steps: 2 * rows.inputs / LINE,
    };
    // SAFETY: there are `count` rows of `inputs` elements, and 64 weights per input in the panel.
    unsafe {
        blocks(pass, rows.count, bf16_narrow, bf16_wide, |sums, first, count| {
            for (row, sums) in sums.0.chunks_exact(PANEL).take(count).enumerate() {
                let sums = std::array::from_fn(|index| _mm512_loadu_ps(sums.as_ptr().add(16 * index).cast()));
                put(target, first + row, sums);
            }
        });
    }
}

/// # Safety
/// AMX is usable, the processor has AVX-512F, and rows are whole lines. `product.rs` checked the lengths.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn int8_panel(
    rows: Rows<'_, u8>,
    panel: &[i8],
    scales: Scales<'_>,
    target: &mut Target<'_>,
) {
    let pass = Pass {
        rows: rows.values.as_ptr(),
        stride: rows.stride,
        panel: panel.as_ptr().cast(),
        steps: rows.inputs / LINE,
    };
    // SAFETY: there are `count` rows of `inputs` elements, and 64 weights per input in the panel.
    unsafe {
        blocks(pass, rows.count, int8_narrow, int8_wide, |sums, first, count| {
            for (row, sums) in sums.0.chunks_exact(PANEL).take(count).enumerate() {
                let sums =
                    std::array::from_fn(|index| _mm512_loadu_si512(sums.as_ptr().add(16 * index).cast()));
                put_scaled(target, scales, first + row, sums);
            }
        });
    }
}
