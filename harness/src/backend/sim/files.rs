//! Faults of files: what the process backend does on real disks, on simulated ones.

use rand::Rng;

use super::SimWorld;
use crate::backend::{Damage, DataFile, World};

const CONFIG: &str = "nodes.conf";

impl SimWorld {
    pub(super) fn keep_config_of(&self, node: u16) {
        let config = self.inner.cluster.borrow().read_file(node, CONFIG).map(<[u8]>::to_vec);
        if let Some(config) = config {
            self.inner.kept_configs.borrow_mut().insert(node, config);
        }
    }

    /// All files but nodes.conf go: the node lost its data, and not who it is.
    pub(super) fn wipe_data(&self, node: u16) {
        let mut cluster = self.inner.cluster.borrow_mut();
        let config = cluster.read_file(node, CONFIG).map(<[u8]>::to_vec);
        cluster.wipe(node);
        if let Some(config) = config {
            cluster.put_file(node, CONFIG, config);
        }
    }

    /// Says what was done, or why nothing could be.
    pub(super) fn damage_files(&self, node: u16, damage: Damage) -> Result<String, String> {
        let file = match damage {
            Damage::RollBackConfig => return self.roll_back(node),
            Damage::Truncate { file, .. } | Damage::Corrupt { file, .. } => file,
        };
        let name = self.newest(node, file).ok_or_else(|| format!("there is no {} file", file.name()))?;
        let mut cluster = self.inner.cluster.borrow_mut();
        let mut bytes = cluster.read_file(node, &name).unwrap_or_default().to_vec();
        let len = bytes.len();
        if len == 0 {
            return Err(format!("{name} is empty"));
        }
        let told = match damage {
            Damage::Corrupt { bytes: flips, .. } => {
                let mut rng = World::rng(self, &format!("damage-{node}-{}", World::now(self)));
                let tail = (len / 10).max(1);
                for _ in 0..flips {
                    bytes[len - 1 - rng.random_range(0..tail)] ^= rng.random_range(1..=255u8);
                }
                format!("{name}: {flips} of its last {tail} bytes flipped")
            }
            Damage::Truncate { permille, .. } => {
                let gone = (len * usize::from(permille) / 1000).clamp(1, len);
                bytes.truncate(len - gone);
                format!("{name}: the last {gone} of {len} bytes cut off")
            }
            Damage::RollBackConfig => return Err("answered above".to_owned()),
        };
        cluster.put_file(node, &name, bytes);
        Ok(told)
    }

    fn roll_back(&self, node: u16) -> Result<String, String> {
        let mut cluster = self.inner.cluster.borrow_mut();
        let kept = self.inner.kept_configs.borrow();
        let (Some(old), Some(now)) = (kept.get(&node), cluster.read_file(node, CONFIG)) else {
            return Err("there is no older nodes.conf".to_owned());
        };
        if old == now {
            return Err("nodes.conf has not changed since the copy was kept".to_owned());
        }
        let told = format!("nodes.conf back from ({}) to ({})", vars(now), vars(old));
        cluster.put_file(node, CONFIG, old.clone());
        Ok(told)
    }

    fn newest(&self, node: u16, file: DataFile) -> Option<String> {
        let ends: &[&str] = match file {
            DataFile::Config => &[CONFIG],
            DataFile::Aof => &[".incr.aof", "appendonly.aof"],
            DataFile::Rdb => &[".rdb"],
        };
        // Names carry a number that grows.
        let mut names = self.inner.cluster.borrow().file_names(node);
        names.retain(|name| ends.iter().any(|end| name.ends_with(end)));
        names.sort_by_key(|name| (name.len(), name.clone()));
        names.pop()
    }
}

fn vars(config: &[u8]) -> String {
    let text = String::from_utf8_lossy(config);
    text.lines().find(|line| line.starts_with("vars")).unwrap_or("no vars").to_owned()
}
