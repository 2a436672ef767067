//! Products with AMX, a unit of its own for products of matrices: tiles of 16 rows of 64 bytes, two of which are multiplied
//! by one instruction (`tdpbusd` for 8-bit integers, `tdpbf16ps` for bf16).
//!
//! Sums are kept in four tiles. Where there are more than 16 rows, a pass multiplies 32 of them by half a panel, so that every
//! tile that is read is used twice; else all of a panel by as many rows as there are. Panels stand as the unit wants
//! them: a line of a tile has the weights of 16 outputs, of four (two) inputs each.
//!
//! Tiles are instructions' operands only, which the compiler knows nothing of: each pass is one block of assembly from the
//! zeroing of its sums to their storing. Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.
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
/// Bytes of a line of a tile, and of what a step of the inner loop reads of a row.
const LINE: usize = 64;
/// Bytes from one line of a panel's tile to the next: 64 outputs of four bytes.
const PANEL_LINE: usize = 4 * PANEL;
/// Words of the sums of 32 rows.
const SUMS: usize = 2 * TILE * PANEL;

/// Rows of 8-bit integers from which the unit is faster than `vpdpbusd`, whose sums are the same. Those of bf16 are not, so that
/// it takes any number of rows of them.
pub(super) const LEAST_INT8_ROWS: usize = 5;

/// Whether the processor has the unit and the system lets this process use it. It is asked for once.
pub(super) fn is_usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| has_instructions() && is_permitted())
}

fn has_instructions() -> bool {
    /// Of leaf 7: tiles, and products of bf16 and of 8-bit integers.
    const EDX: u32 = 1 << 24 | 1 << 22 | 1 << 25;
    // Not unsafe in newer versions of the standard library.
    #[allow(unused_unsafe)]
    // SAFETY: every x86-64 processor has the instruction; a leaf is asked for that there is.
    unsafe {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & EDX == EDX
    }
}

/// Linux has a process ask for the unit: its registers are 8 KiB, for which signals need larger stacks. It says no where it
/// doesn't keep them, whatever the processor has.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers, and changes nothing but what the process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// Whether rows of this many bytes are whole lines of tiles. How many rows there are doesn't matter, so that a row's result
/// doesn't depend on what is beside it.
pub(super) fn fits(bytes: usize) -> bool {
    bytes > 0 && bytes.is_multiple_of(LINE)
}

/// How tiles are shaped; what `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shape {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    line_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shape {
    /// Of a pass over `first` and `second` rows, at most 16 each; the second none: one tile of rows by four of a panel.
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
    /// How this thread's tiles are shaped: rows of the first and of the second tile of a pass.
    static SHAPED: Cell<(usize, usize)> = const { Cell::new(UNSHAPED) };
}

/// The shape of tiles that were given back.
const UNSHAPED: (usize, usize) = (0, 0);

/// Shapes this thread's tiles, unless they are shaped that way: it takes as long as some ten products of tiles.
///
/// # Safety
/// The unit is usable, `first` is 1 to 16 and `second` at most 16.
#[inline]
unsafe fn shape(first: usize, second: usize) {
    if SHAPED.get() != (first, second) {
        let shape = Shape::of(first, second);
        // SAFETY: it is a shape of palette 1: eight tiles of at most 16 rows of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shape, options(nostack, readonly)) };
        SHAPED.set((first, second));
    }
}

/// Gives this thread's tiles back, if it has any: the system need not keep them for it then. Products leave them as they are,
/// for the next one.
pub(super) fn release() {
    if SHAPED.replace(UNSHAPED) != UNSHAPED {
        // SAFETY: the thread has shaped tiles, so that the unit is usable; nothing is in them any more.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

/// Sums of 32 rows by 64 outputs, as 32-bit words.
#[repr(C, align(64))]
struct Sums([u32; SUMS]);

/// What a pass reads.
#[derive(Clone, Copy)]
struct Pass {
    /// The first row, in bytes.
    rows: *const u8,
    /// Bytes from one row to the next.
    stride: usize,
    panel: *const u8,
    /// Lines of a row.
    steps: usize,
}

/// Brings those lines of the panel near that begin `$parts` bytes behind each 256 of the next step: the processor doesn't
/// foresee them, as panels are read tile by tile.
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

/// The two kinds of passes with one instruction.
macro_rules! passes {
    ($narrow:ident, $wide:ident, $dot:literal) => {
        /// Up to 16 rows by a panel.
        ///
        /// # Safety
        /// The unit is usable; rows and panel have `steps` lines, and tiles the shape for it.
        #[inline]
        unsafe fn $narrow(pass: Pass, sums: &mut Sums) {
            // SAFETY: reads lines of rows and panel, writes the sums of 16 rows and the tiles.
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

        /// 17 to 32 rows by half a panel, of which `sums` are those of the first row.
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

/// Loops of nothing but one instruction.
macro_rules! peaks {
    ($name:ident, $dot:literal) => {
        /// Runs `steps` steps of four products of whole tiles each, of ones as far as 8-bit integers go.
        ///
        /// # Safety
        /// The unit is usable, and `steps` is at least 1.
        pub(super) unsafe fn $name(steps: usize) {
            let ones = Sums([0x0101_0101; SUMS]);
            // SAFETY: reads 16 lines of 256 bytes, of which there are 32; the rest is in tiles, which are shaped.
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

/// Multiplies all rows by a panel; `done` gets the sums of up to 32 rows, the first of them and how many they are.
///
/// # Safety
/// The unit is usable; `count` rows and the panel have `steps` lines each.
#[inline(always)]
unsafe fn blocks(
    pass: Pass,
    count: usize,
    narrow: unsafe fn(Pass, &mut Sums),
    wide: unsafe fn(Pass, *mut u32),
    mut done: impl FnMut(&Sums, usize, usize),
) {
    let mut sums = Sums([0; SUMS]);
    // Of one height as far as possible: tiles are shaped anew between two heights.
    for (first, rows) in tiles(count, 2 * TILE) {
        let second = rows.saturating_sub(TILE);
        let pass = Pass {
            rows: pass.rows.wrapping_add(first * pass.stride),
            ..pass
        };
        // SAFETY: all of these rows are there, and the tiles have the shape for them.
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
/// The unit is usable, the processor has AVX-512F, and rows are whole lines. Lengths are as `product.rs` checks them.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn bf16_panel(rows: Rows<'_, u16>, panel: &[u16], target: &mut Target<'_>) {
    let pass = Pass {
        rows: rows.values.as_ptr().cast(),
        stride: 2 * rows.stride,
        panel: panel.as_ptr().cast(),
        steps: 2 * rows.inputs / LINE,
    };
    // SAFETY: `count` rows of `inputs` numbers are there, and 64 of each input in the panel.
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
/// The unit is usable, the processor has AVX-512F, and rows are whole lines. Lengths are as `product.rs` checks them.
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
    // SAFETY: `count` rows of `inputs` numbers are there, and 64 of each input in the panel.
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
