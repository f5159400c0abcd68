//! What the values of a scenario may be.

use supernode_measure::stamp::Stamp;
use supernode_proto::limits;

use super::Scenario;

/// Most bytes of a header that the generator puts before the sealed part.
const HEADER_BYTES_MAX: u32 = supernode_proto::object::DATAGRAM_HEADER_BYTES_MAX as u32;

impl Scenario {
    /// The first value out of its bounds: its path, itself, and what it must be.
    pub(super) fn check(&self) -> Result<(), (&'static str, String, String)> {
        let within = |path, value: f64, least: f64, most: f64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err((path, value.to_string(), format!("must be {least} to {most}"))),
        };
        let [smallest, largest] = self.object_bytes.range();
        let object_least = HEADER_BYTES_MAX + Stamp::BYTES as u32;
        let object_bytes =
            |path, value: u32| within(path, value.into(), object_least.into(), limits::DATAGRAM_BYTES_MAX as f64);
        object_bytes("object_bytes", smallest)?;
        object_bytes("object_bytes", largest)?;
        if smallest > largest {
            return Err(("object_bytes", smallest.to_string(), format!("must be at most {largest}, the second")));
        }
        within("pairs", self.pairs.into(), 1.0, 100_000.0)?;
        within("rooms", self.rooms.into(), 1.0, 100_000.0)?;
        within("members", self.members.into(), 2.0, 1000.0)?;
        within("listeners", self.listeners.into(), 1.0, 100_000.0)?;
        within("room_members_max", self.room_members_max.into(), 2.0, 100_000.0)?;
        within("objects_per_second", self.objects_per_second, 0.0, 100_000.0)?;
        within("ttl_ms", self.ttl_ms.into(), 1.0, limits::OBJECT_TTL_MS_MAX.into())?;
        within("late_ms", self.late_ms.into(), 1.0, 60_000.0)?;
        within("ramp_s", self.ramp_s, 0.0, 3600.0)?;
        within("warm_up_s", self.warm_up_s, 0.2, 3600.0)?;
        within("hold_s", self.hold_s, 0.5, 24.0 * 3600.0)?;
        for stage in &self.stages {
            within("stages.for_s", stage.for_s, 0.0, 24.0 * 3600.0)?;
            within("stages.to", stage.to, 0.0, 1.0)?;
        }
        within("abort_after_s", self.abort_after_s, 0.0, 3600.0)?;
        within("linger_s", self.linger_s, 0.1, 60.0)?;
        within("workers", self.workers.into(), 1.0, 256.0)?;
        within("sockets", self.sockets.into(), 1.0, 256.0)?;
        within("gather_us", self.gather_us.into(), 0.0, 5000.0)?;
        within("ack_threshold", self.ack_threshold.into(), 0.0, 1000.0)?;
        within("validity.lag_p99_ms_max", self.validity.lag_p99_ms_max, 0.0, 1000.0)?;
        within("validity.busy_max", self.validity.busy_max, 0.1, 1.0)?;
        if let Some(video) = &self.video {
            within("video.kbit_per_s", video.kbit_per_s, 10.0, 100_000.0)?;
            within("video.frames_per_second", video.frames_per_second, 1.0, 240.0)?;
            within("video.group_frames", video.group_frames.into(), 1.0, 10_000.0)?;
            within("video.key_frame_factor", video.key_frame_factor, 1.0, 100.0)?;
            within("video.temporal_layers", video.temporal_layers.into(), 1.0, 3.0)?;
        }
        if let Some(slow) = &self.slow {
            within("slow.members", slow.members.into(), 1.0, 100.0)?;
            within("slow.read_kbit_per_s", slow.read_kbit_per_s, 0.0, 1e6)?;
        }
        if let Some(churn) = &self.churn {
            within("churn.sessions", churn.sessions.into(), 1.0, 100_000.0)?;
            within("churn.stay_s", churn.stay_s, 0.2, 3600.0)?;
            within("churn.watches", churn.watches.into(), 0.0, (churn.sessions - 1).into())?;
        }
        if let Some(flood) = &self.flood {
            within("flood.pairs", flood.pairs.into(), 1.0, 1000.0)?;
            within("flood.objects_per_second", flood.objects_per_second, 1.0, 1e6)?;
            object_bytes("flood.object_bytes", flood.object_bytes)?;
        }
        if let Some(outsiders) = &self.outsiders {
            within("outsiders.strangers", outsiders.strangers.into(), 0.0, 1000.0)?;
            within("outsiders.kicked", outsiders.kicked.into(), 0.0, 100.0)?;
        }
        if let Some(presence) = &self.presence {
            within("presence.people", presence.people.into(), 2.0, 100_000.0)?;
            let others = f64::from(presence.people - 1);
            within("presence.watchers", presence.watchers.into(), 1.0, others)?;
            within("presence.changes_per_second", presence.changes_per_second, 0.0, 100.0)?;
        }
        if let Some(rings) = &self.rings {
            within("rings.pairs", rings.pairs.into(), 1.0, 100_000.0)?;
            within("rings.per_minute", rings.per_minute, 0.1, 6000.0)?;
            let most = limits::RING_PAYLOAD_BYTES_MAX as f64;
            within("rings.payload_bytes", rings.payload_bytes.into(), Stamp::BYTES as f64, most)?;
        }
        Ok(())
    }
}
