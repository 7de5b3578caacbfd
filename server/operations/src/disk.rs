//! How much room a disk has.

use std::{io, mem::MaybeUninit, os::unix::ffi::OsStrExt as _, path::Path};

/// Below this a program is not ready: a session's log still fits, but somebody must act. 256 MiB.
pub const LITTLE: u64 = 256 << 20;

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// For programs without privileges.
    pub free: u64,
    pub total: u64,
}

/// Of the disk that `folder` lies on.
pub fn space(folder: &Path) -> io::Result<Space> {
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is a C string and `stat` a place for the answer, both alive during the call.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so all fields were written.
    let stat = unsafe { stat.assume_init() };
    Ok(Space { free: stat.f_bavail.saturating_mul(stat.f_frsize), total: stat.f_blocks.saturating_mul(stat.f_frsize) })
}

/// Makes names in a folder survive a power cut.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_folder_has_space_and_a_missing_one_is_an_error() {
        let space = super::space(&std::env::temp_dir()).unwrap();
        assert!(space.total >= space.free && space.total > 0);
        assert!(super::space(std::path::Path::new("/no/such/folder")).is_err());
    }
}
