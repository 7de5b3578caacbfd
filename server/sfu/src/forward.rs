//! Copies what a leg sends to those who get it: packets, the publisher's clock, key frame requests, the pointer.
//!
//! Owns: nothing; works on the worker's legs and rooms. Never: logs, locks, copies a payload, or changes a timestamp.
//! Elsewhere: who subscribes (`room`, `leg`), numbering (`subscriber`), reading and sending datagrams (`worker`).

use std::time::Instant;

use lotse_protocol::signal::TrackSource;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::rtcp::payload_feedbacks::{
    full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
};
use rtc::rtcp::{
    self, receiver_report::ReceiverReport, sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use rtc::rtp;
use rtc::sansio::Protocol;

use crate::history::Packet;
use crate::leg::{Due, Leg};
use crate::publisher::ClockPoint;
use crate::socket::Outlet;
use crate::srtp::{Carried, Head};
use crate::worker::{LegId, State};
use crate::{LegKind, SfuEvent, keyframe::begins_key_frame, pointer, room::hears};

/// Place of the audio level among the forwarded extensions.
const LEVEL: usize = 1;

impl State {
    /// One RTP packet of a publisher.
    pub(crate) fn on_rtp(&mut self, from: LegId, packet: rtp::Packet, now: Instant) {
        let Some(leg) = self.legs.get_mut(from).and_then(Option::as_mut) else { return };
        let (kind, room) = (leg.kind, leg.room);
        let ssrc = packet.header.ssrc;
        let Some(at) = leg.uplinks.iter().position(|uplink| uplink.ssrc == Some(ssrc)) else { return };
        let uplink = &mut leg.uplinks[at];
        let (codec, video) = (uplink.info.codec, uplink.info.codec.is_video());
        uplink.meter.on_packet(packet.header.sequence_number, video);
        // Nothing flows from a closed participant, and the archivist is never heard.
        if !leg.open || kind == LegKind::Archivist {
            return;
        }
        let mut carried = Carried::default();
        for (slot, id) in carried.iter_mut().zip(uplink.extensions) {
            if id != 0 {
                *slot = packet.header.get_extension(id);
            }
        }
        let heard = if uplink.info.source == TrackSource::Voice {
            let level = carried[LEVEL].as_ref().and_then(|bytes| bytes.first().copied());
            let place = uplink.voice;
            self.rooms[room].as_mut().is_some_and(|room| room.voices.on_packet(place, level, now))
        } else {
            true
        };
        let opens = video && begins_key_frame(codec, &packet.payload);
        if opens {
            uplink.key_frames.on_key_frame();
        }
        let clock = uplink.clock;
        let (place, sequence, octets) = (self.burst.len(), packet.header.sequence_number, packet.payload.len() as u32);
        let header = &packet.header;
        let packet = Packet {
            number: sequence,
            marker: header.marker,
            timestamp: header.timestamp,
            carried,
            payload: packet.payload,
        };
        if video {
            uplink.history.keep(&packet, opens, now);
        }
        self.burst.push(packet);
        for n in 0..uplink_subscriptions(&self.legs, from, at) {
            let Some(to) = self.legs[from].as_ref().map(|leg| leg.uplinks[at].subscriptions[n]) else { return };
            let Some(leg) = self.legs.get_mut(to.leg).and_then(Option::as_mut) else { continue };
            let hears = hears(leg.kind, heard);
            let Some(line) = leg.downlinks.get_mut(to.line) else { continue };
            if !line.live || !leg.connected {
                continue;
            }
            if !hears {
                // A silenced voice comes back without a hole in its numbers.
                line.numbering.restart();
                continue;
            }
            if line.needs_key_frame {
                if !opens {
                    line.withheld = true;
                    continue;
                }
                line.needs_key_frame = false;
            }
            let Some(number) = line.numbering.map(sequence) else { continue };
            line.packets = line.packets.wrapping_add(1);
            line.octets = line.octets.wrapping_add(octets);
            let report = clock.and_then(|clock| line.report(now, clock));
            leg.due.push(Due { packet: place, line: to.line, number, repair: false });
            if !leg.queued {
                leg.queued = true;
                self.to_drain.push_back(to.leg);
            }
            if let Some(report) = report {
                let message = RTCMessage::RtcpPacket(String::new(), vec![Box::new(report)]);
                let _ = leg.connection.handle_write(TaggedRTCMessage { now, message });
                self.queue(to.leg);
            }
        }
    }

    /// Seals what was forwarded to a leg and sends it.
    pub(crate) fn send_due(&mut self, id: LegId, out: &mut Outlet) {
        let Some(leg) = self.legs[id].as_mut() else { return };
        let (Some(sealer), Some(to)) = (leg.sealer.as_mut(), leg.path.to()) else { return leg.due.clear() };
        for due in leg.due.drain(..) {
            let Some((line, packet)) = leg.downlinks.get_mut(due.line).zip(self.burst.get(due.packet)) else {
                continue;
            };
            let Some(index) = line.rollover.index(due.number) else { continue };
            let mut head = Head {
                marker: packet.marker,
                payload_type: line.payload_type,
                ssrc: line.ssrc,
                timestamp: packet.timestamp,
                index,
            };
            let parcel = &mut out.parcel;
            let sealed = match (due.repair, line.repair, line.repair_type) {
                // RFC 4588: a stream of its own; the original number goes before the payload.
                (true, Some(ssrc), Some(payload_type)) => {
                    (head.ssrc, head.payload_type, head.index) = (ssrc, payload_type, line.repairs);
                    line.repairs += 1;
                    sealer.seal(&mut parcel.bytes, head, None, &due.number.to_be_bytes(), &packet.payload)
                }
                // First time, or again byte for byte.
                _ => {
                    let extensions = Some((&packet.carried, &line.extensions));
                    sealer.seal(&mut parcel.bytes, head, extensions, &[], &packet.payload)
                }
            };
            match sealed {
                Ok(len) => {
                    parcel.lens.push(len);
                    leg.second.bytes_out += len as u64;
                }
                Err(_) => self.trouble.refused += 1,
            }
        }
        out.flush(to, &mut self.streams);
    }

    /// A subscriber misses packets: it gets them again if they are still here.
    fn on_lost(&mut self, from: LegId, lost: &TransportLayerNack, now: Instant) {
        let Some(leg) = self.legs.get(from).and_then(Option::as_ref) else { return };
        let line = leg.downlinks.iter().position(|line| line.ssrc == lost.media_ssrc && line.live);
        let Some((line, (publisher, at))) = line.and_then(|line| Some((line, self.source(from, line)?))) else {
            return;
        };
        for number in lost.nacks.iter().flat_map(|pair| pair.into_iter()) {
            let found = |state: &Self| {
                let leg = state.legs[from].as_ref()?;
                let original = leg.downlinks[line].numbering.unmap(number)?;
                state.legs[publisher].as_ref()?.uplinks[at].history.get(original).cloned()
            };
            let Some(packet) = found(self) else { continue };
            let Some(leg) = self.legs[from].as_mut() else { return };
            if !leg.repair_budget.take(now) {
                return;
            }
            leg.due.push(Due { packet: self.burst.len(), line, number, repair: true });
            self.burst.push(packet);
        }
    }

    /// RTCP of a leg, taken apart by the tap.
    pub(crate) fn on_rtcp(&mut self, from: LegId, packets: Vec<Box<dyn rtcp::Packet>>, now: Instant) {
        for packet in packets {
            let any = packet.as_any();
            if let Some(report) = any.downcast_ref::<SenderReport>() {
                self.on_clock(from, report, now);
            } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
                let Some(leg) = self.legs.get_mut(from).and_then(Option::as_mut) else { return };
                for block in &report.reports {
                    let line = leg.downlinks.iter_mut().find(|line| line.ssrc == block.ssrc);
                    if let Some(rtt) = line.and_then(|line| line.on_report(now, block)) {
                        let before = leg.state.rtt_ms.unwrap_or(rtt);
                        leg.state.rtt_ms = Some(before + 0.25 * (rtt - before));
                    }
                }
            } else if let Some(lost) = any.downcast_ref::<TransportLayerNack>() {
                self.on_lost(from, lost, now);
            } else if let Some(wish) = any.downcast_ref::<PictureLossIndication>() {
                self.on_key_frame_wish(from, wish.media_ssrc, now);
            } else if let Some(wish) = any.downcast_ref::<FullIntraRequest>() {
                for entry in &wish.fir {
                    self.on_key_frame_wish(from, entry.ssrc, now);
                }
            }
        }
    }

    /// A publisher tells its clock: passed on at once, with our stream and counts.
    fn on_clock(&mut self, from: LegId, report: &SenderReport, now: Instant) {
        let Some(leg) = self.legs.get_mut(from).and_then(Option::as_mut) else { return };
        let open = leg.open;
        let Some(at) = leg.uplinks.iter().position(|uplink| uplink.ssrc == Some(report.ssrc)) else { return };
        let clock = ClockPoint { ntp: report.ntp_time, rtp: report.rtp_time };
        leg.uplinks[at].clock = Some(clock);
        if !open {
            return;
        }
        for n in 0..uplink_subscriptions(&self.legs, from, at) {
            let Some(to) = self.legs[from].as_ref().map(|leg| leg.uplinks[at].subscriptions[n]) else { return };
            let Some(leg) = self.legs.get_mut(to.leg).and_then(Option::as_mut) else { continue };
            let Some(line) = leg.downlinks.get_mut(to.line).filter(|line| line.live) else { continue };
            if let Some(report) = line.report(now, clock) {
                let message = RTCMessage::RtcpPacket(String::new(), vec![Box::new(report)]);
                let _ = leg.connection.handle_write(TaggedRTCMessage { now, message });
                self.queue(to.leg);
            }
        }
    }

    /// A line begins to carry: with the newest key frame if one came since the track was offered, else with the next.
    pub(crate) fn begin(&mut self, to: LegId, line: usize, now: Instant) {
        if !self.catch_up(to, line, now) {
            self.want_key_frame(to, line, now);
        }
    }

    /// Sends a line what it missed since the newest key frame, while its connection was being made.
    fn catch_up(&mut self, to: LegId, line: usize, now: Instant) -> bool {
        let waits = |leg: &Leg| {
            let line = leg.downlinks.get(line)?;
            if leg.connected && line.live && line.needs_key_frame { line.offered_at } else { None }
        };
        let Some(since) = self.legs[to].as_deref().and_then(waits) else { return false };
        let Some((publisher, at)) = self.source(to, line) else { return false };
        let Some(publisher) = self.legs[publisher].as_ref() else { return false };
        let Some(missed) = publisher.uplinks[at].history.since_key_frame(since, now) else { return false };
        let first = self.burst.len();
        self.burst.extend(missed.cloned());
        let Some(leg) = self.legs[to].as_mut() else { return false };
        let downlink = &mut leg.downlinks[line];
        downlink.needs_key_frame = false;
        for packet in first..self.burst.len() {
            let Some(number) = downlink.numbering.map(self.burst[packet].number) else { continue };
            downlink.packets = downlink.packets.wrapping_add(1);
            downlink.octets = downlink.octets.wrapping_add(self.burst[packet].payload.len() as u32);
            leg.due.push(Due { packet, line, number, repair: false });
        }
        self.queue(to);
        true
    }

    /// A subscriber wants a key frame on one of its lines.
    fn on_key_frame_wish(&mut self, from: LegId, ssrc: u32, now: Instant) {
        let Some(leg) = self.legs.get(from).and_then(Option::as_ref) else { return };
        let Some(line) = leg.downlinks.iter().position(|line| line.ssrc == ssrc && line.live) else { return };
        self.want_key_frame(from, line, now);
    }

    /// Asks the publisher behind a line for a key frame, or soon.
    pub(crate) fn want_key_frame(&mut self, subscriber: LegId, line: usize, now: Instant) {
        let Some((publisher, at)) = self.source(subscriber, line) else { return };
        let Some(leg) = self.legs[publisher].as_mut() else { return };
        let uplink = &mut leg.uplinks[at];
        if uplink.info.codec.is_video() && uplink.key_frames.want(now) {
            self.ask_key_frame(publisher, at, now);
        }
    }

    /// Asks again for key frames that have not come: the subscriber sees nothing and so does not ask itself.
    pub(crate) fn ask_again(&mut self, now: Instant) {
        for id in 0..self.legs.len() {
            for line in 0..self.legs[id].as_ref().map_or(0, |leg| leg.downlinks.len()) {
                let waits = |leg: &mut Box<crate::leg::Leg>| std::mem::take(&mut leg.downlinks[line].withheld);
                if self.legs[id].as_mut().is_some_and(waits) {
                    self.want_key_frame(id, line, now);
                }
            }
        }
    }

    /// Sends the request up and tells the server.
    pub(crate) fn ask_key_frame(&mut self, publisher: LegId, at: usize, now: Instant) {
        let Some(leg) = self.legs[publisher].as_mut() else { return };
        let Some(media_ssrc) = leg.uplinks[at].ssrc else { return };
        let wish = PictureLossIndication { sender_ssrc: 1, media_ssrc };
        let message = RTCMessage::RtcpPacket(String::new(), vec![Box::new(wish)]);
        let _ = leg.connection.handle_write(TaggedRTCMessage { now, message });
        let (who, room, track) = (leg.who, leg.room, leg.uplinks[at].info.track);
        self.queue(publisher);
        if let Some(room) = self.rooms[room].as_ref() {
            self.events.tell_if_room(SfuEvent::KeyFrame { room: room.id, who, track });
        }
    }

    /// One message of the pointer channel.
    pub(crate) fn on_pointer(&mut self, from: LegId, data: &[u8], now: Instant) {
        let Some(leg) = self.legs.get_mut(from).and_then(Option::as_mut) else { return };
        if !leg.open || leg.kind == LegKind::Archivist || !leg.pointer_budget.take(now) {
            self.trouble.pointer += 1;
            return;
        }
        let Some(message) = pointer::wrap(leg.who, data) else {
            self.trouble.pointer += 1;
            return;
        };
        let Some(room) = self.rooms[leg.room].as_ref() else { return };
        let others: Vec<LegId> =
            room.members.values().filter_map(|member| member.leg).filter(|id| *id != from).collect();
        for to in others {
            let Some(leg) = self.legs.get_mut(to).and_then(Option::as_mut) else { continue };
            if !leg.open || !leg.channel_open || leg.kind == LegKind::Archivist {
                continue;
            }
            let Some(mut channel) = leg.channel.and_then(|id| leg.connection.data_channel(id)) else { continue };
            if channel.outstanding_bytes() > pointer::MAX_WAITING
                || channel.send_text(now, String::from_utf8_lossy(&message)).is_err()
            {
                self.trouble.pointer += 1;
                continue;
            }
            self.queue(to);
        }
    }
}

fn uplink_subscriptions(legs: &[Option<Box<crate::leg::Leg>>], from: LegId, at: usize) -> usize {
    legs[from].as_ref().map_or(0, |leg| leg.uplinks[at].subscriptions.len())
}
