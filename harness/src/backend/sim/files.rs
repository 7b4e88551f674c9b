//! Faults of files: what the process backend does on real disks, on simulated ones.

use super::SimWorld;
use crate::backend::faults::{CONFIG, rollback};
use crate::backend::{Damage, DataFile, World};

impl SimWorld {
    pub(super) fn config_of(&self, node: u16) -> Option<Vec<u8>> {
        self.inner.cluster.borrow().read_file(node, CONFIG).map(<[u8]>::to_vec)
    }

    pub(super) fn keep_config_of(&self, node: u16) {
        if let Some(config) = self.config_of(node) {
            self.inner.kept_configs.borrow_mut().insert(node, config);
        }
    }

    /// All files but nodes.conf go: the node lost its data, and not who it is.
    pub(super) fn wipe_data(&self, node: u16) {
        let config = self.config_of(node);
        let mut cluster = self.inner.cluster.borrow_mut();
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
        let mut rng = World::rng(self, &format!("damage-{node}-{}", World::now(self)));
        let told = damage.spoil(&name, &mut bytes, &mut rng)?;
        cluster.put_file(node, &name, bytes);
        Ok(told)
    }

    fn roll_back(&self, node: u16) -> Result<String, String> {
        let mut cluster = self.inner.cluster.borrow_mut();
        let kept = self.inner.kept_configs.borrow();
        let (Some(old), Some(now)) = (kept.get(&node), cluster.read_file(node, CONFIG)) else {
            return Err("there is no older nodes.conf".to_owned());
        };
        let told = rollback(now, old)?;
        cluster.put_file(node, CONFIG, old.clone());
        Ok(told)
    }

    fn newest(&self, node: u16, file: DataFile) -> Option<String> {
        // Names carry a number that grows.
        let mut names = self.inner.cluster.borrow().file_names(node);
        names.retain(|name| file.endings().iter().any(|end| name.ends_with(end)));
        names.sort_by_key(|name| (name.len(), name.clone()));
        names.pop()
    }
}
