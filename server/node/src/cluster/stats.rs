//! Counts of bus messages, for CLUSTER INFO.

use super::bus::PacketType;

#[derive(Debug, Default)]
pub(super) struct BusStats {
    pub sent: [u64; PacketType::ALL.len()],
    pub received: [u64; PacketType::ALL.len()],
    /// Links dropped because their queue was over the limit.
    pub over_limit: u64,
}

impl BusStats {
    pub fn count_sent(&mut self, packet_type: u16) {
        if let Some(count) = self.sent.get_mut(usize::from(packet_type)) {
            *count += 1;
        }
    }

    pub fn count_received(&mut self, packet_type: u16) {
        if let Some(count) = self.received.get_mut(usize::from(packet_type)) {
            *count += 1;
        }
    }
}
