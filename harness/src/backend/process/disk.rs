//! What faults do to a node's files: damage while it is down, and a disk that takes no more while it runs.
//!
//! * Read-only: the folder and all in it lose their write permission. That holds for root, too, since [`super::keeper`]
//!   starts every server without the capability to write where permissions forbid it (CAP_DAC_OVERRIDE).
//! * Full: the process may not make any file longer than nodes.conf is now (RLIMIT_FSIZE). The keeper starts servers with
//!   SIGXFSZ blocked, so that a write beyond it is cut short or fails (EFBIG), as on a full disk (ENOSPC), and kills nobody.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::backend::faults::{CONFIG, rollback};
use crate::backend::{Damage, DataFile, Disk};

/// nodes.conf, if there is one.
pub fn config(dir: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(dir.join(CONFIG)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        config => config.map(Some),
    }
}

/// Copies nodes.conf to where [`damage`] finds it again.
pub fn keep_config(dir: &Path, kept: &Path) -> io::Result<()> {
    match fs::copy(dir.join(CONFIG), kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes all of a dead node's files but nodes.conf: it lost its data, and not who it is.
pub fn wipe(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != CONFIG {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Damages a dead node's files; what was done, or why nothing could be.
pub fn damage(
    dir: &Path,
    kept: &Path,
    damage: Damage,
    rng: &mut ChaCha8Rng,
) -> io::Result<Result<String, String>> {
    let file = match damage {
        Damage::RollBackConfig => return roll_back(dir, kept),
        Damage::Truncate { file, .. } | Damage::Corrupt { file, .. } => file,
    };
    let Some(path) = find(dir, file)? else { return Ok(Err(format!("there is no {} file", file.name()))) };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut bytes = fs::read(&path)?;
    let told = damage.spoil(&name, &mut bytes, rng);
    if told.is_ok() {
        let mut open = OpenOptions::new().write(true).truncate(true).open(&path)?;
        open.write_all(&bytes)?;
        open.sync_all()?;
    }
    Ok(told)
}

fn roll_back(dir: &Path, kept: &Path) -> io::Result<Result<String, String>> {
    let (old, now) = match (fs::read(kept), fs::read(dir.join(CONFIG))) {
        (Ok(old), Ok(now)) => (old, now),
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Err("there is no older nodes.conf".to_owned()));
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let told = rollback(&now, &old);
    if told.is_ok() {
        fs::write(dir.join(CONFIG), &old)?;
    }
    Ok(told)
}

/// The newest file of this kind.
fn find(dir: &Path, file: DataFile) -> io::Result<Option<PathBuf>> {
    if file == DataFile::Config {
        return Ok(Some(dir.join(CONFIG)).filter(|path| path.exists()));
    }
    let mut found = Vec::new();
    for folder in [dir.to_owned(), dir.join("appendonlydir")] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let (entry, path) = {
                let entry = entry?;
                (entry.metadata()?, entry.path())
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if entry.is_file() && file.endings().iter().any(|end| name.ends_with(end)) {
                found.push((entry.modified()?, path));
            }
        }
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}

/// What [`Disk::Full`] allows: the size of nodes.conf.
pub fn file_limit(dir: &Path) -> u64 {
    fs::metadata(dir.join(CONFIG)).map_or(0, |meta| meta.len())
}

/// Gives or takes write permission on the folder and all in it.
pub fn set_writable(dir: &Path, writable: bool) -> io::Result<()> {
    let mode = |is_dir: bool| match (is_dir, writable) {
        (true, true) => 0o755,
        (true, false) => 0o555,
        (false, true) => 0o644,
        (false, false) => 0o444,
    };
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            // A server removes temporary files while it runs.
            match fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode(is_dir))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if is_dir {
                folders.push(entry.path());
            }
        }
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(mode(true)))
}

/// Sets how long files of a running process may grow; `None`: as long as its hard limit allows.
pub fn limit_files(pid: u32, bytes: Option<u64>) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let maximum = rustix::process::getrlimit(Resource::Fsize).maximum;
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum })?;
    Ok(())
}

/// Whether the process could write though permissions forbid it.
pub fn overrides_permissions(pid: u32) -> bool {
    const CAP_DAC_OVERRIDE: u64 = 1 << 1;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|caps| caps & CAP_DAC_OVERRIDE != 0)
}

/// The words of [`Disk`] for the record.
pub fn told(disk: Disk, limit: u64) -> String {
    match disk {
        Disk::Sound => "sound again".to_owned(),
        Disk::ReadOnly => "read-only".to_owned(),
        Disk::Full => format!("full: no file beyond {limit} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::seed;

    #[test]
    fn a_tail_is_cut_off_and_bytes_are_flipped_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, aof) = (dir.path().join("kept"), dir.path().join("appendonlydir"));
        fs::create_dir(&aof).unwrap();
        fs::write(aof.join("appendonly.aof.1.incr.aof"), [7u8; 1000]).unwrap();
        let mut rng = seed::rng(1, "disk");
        let mut hurt = |what| damage(dir.path(), &kept, what, &mut rng).unwrap();
        let told = hurt(Damage::Truncate { file: DataFile::Aof, permille: 100 }).unwrap();
        assert!(told.contains("100 of 1000"), "{told}");
        hurt(Damage::Corrupt { file: DataFile::Aof, bytes: 3 }).unwrap();
        let bytes = fs::read(aof.join("appendonly.aof.1.incr.aof")).unwrap();
        assert_eq!(bytes.len(), 900);
        assert!(bytes[..810].iter().all(|byte| *byte == 7) && bytes[810..].iter().any(|byte| *byte != 7));
        assert!(hurt(Damage::Truncate { file: DataFile::Rdb, permille: 1 }).unwrap_err().contains("no rdb"));
    }

    #[test]
    fn nodes_conf_goes_back_to_the_copy_that_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        let mut rng = seed::rng(1, "disk");
        let mut roll_back = || damage(dir.path(), &kept, Damage::RollBackConfig, &mut rng).unwrap();
        assert!(roll_back().is_err(), "nothing was kept");
        fs::write(dir.path().join(CONFIG), "vars currentEpoch 1").unwrap();
        keep_config(dir.path(), &kept).unwrap();
        assert!(roll_back().unwrap_err().contains("not changed"));
        fs::write(dir.path().join(CONFIG), "vars currentEpoch 9").unwrap();
        assert_eq!(
            roll_back().unwrap(),
            "nodes.conf back from (vars currentEpoch 9) to (vars currentEpoch 1)"
        );
        assert_eq!(fs::read_to_string(dir.path().join(CONFIG)).unwrap(), "vars currentEpoch 1");
    }
}
