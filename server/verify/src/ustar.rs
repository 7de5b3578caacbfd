//! The few bytes of tar a bundle needs, in exactly one form.
//!
//! Owns: the header of a plain file (ustar, mode 0644, owner 0, mtime 0), padding and the end mark. A reader compares with
//! what these functions make, so a bundle has no byte that could be changed unseen. POSIX.1-1988 "ustar".

/// Tar counts in blocks of this many bytes.
pub const BLOCK: u64 = 512;
/// Two blocks of zeros end the archive.
pub const END: u64 = 2 * BLOCK;
/// Eleven octal digits: 8 GiB less one byte.
pub const MAX_SIZE: u64 = 0o77_777_777_777;
/// Longer names do not fit the field.
pub const MAX_NAME: usize = 100;

/// The header of a file. `None` when name or size do not fit.
pub fn header(name: &str, size: u64) -> Option<[u8; BLOCK as usize]> {
    if name.is_empty() || name.len() > MAX_NAME || size > MAX_SIZE {
        return None;
    }
    let mut h = [0u8; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\0");
    put(263, b"00");
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(h)
}

/// The size a header claims; it may lie, so compare the whole header with [`header`].
pub fn size_of(header: &[u8; BLOCK as usize]) -> Option<u64> {
    let text = std::str::from_utf8(&header[124..135]).ok()?;
    if header[135] == 0 && text.bytes().all(|b| b.is_ascii_digit()) { u64::from_str_radix(text, 8).ok() } else { None }
}

/// Zeros after a file of this size, bytes.
pub fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

/// Header, content and padding, bytes.
pub fn footprint(size: u64) -> u64 {
    BLOCK + size + padding(size)
}
