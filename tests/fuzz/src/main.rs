//! libFuzzer for one target, named by `FUZZ_TARGET`. Built and called by `tests/fuzz/fuzz.sh`; libFuzzer brings the `main`.
//!
//! A panic that leaves the target ends the program and is a finding. One that our code contains (a broken leg is ended, its
//! room goes on) is contained here as it is there, and only told.

#![no_main]

use std::sync::LazyLock;

use lotse_fuzz::Target;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    lotse_fuzz::find(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is none of the targets"))
});

/// Called by libFuzzer with each input.
///
/// # Safety
/// `data` points to `size` readable bytes, as libFuzzer promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
    // SAFETY: see above. An empty input may come without an address.
    let input = if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, size) } };
    TARGET.run(input);
    0
}
