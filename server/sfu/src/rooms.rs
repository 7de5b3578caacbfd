//! What the server's commands do to a worker's rooms and legs.
//!
//! Owns: making and ending legs, and bringing lines, subscriptions and watchers in step with the rooms.
//! Never: runs per packet. Elsewhere: the rules (`room`), negotiation (`leg`), the loop (`worker`).

use std::time::Instant;

use lotse_protocol::id::{Pseudonym, SessionId, TrackId};
use lotse_protocol::signal::{Leg as LegState, RtcAnswer, TrackInfo, TrackSource};
use rtc::sansio::Protocol;
use rtc::shared::TransportProtocol;

use crate::command::Command;
use crate::leg::Leg;
use crate::path::Route;
use crate::publisher::Subscription;
use crate::room::{Flowing, Room, one_of_each};
use crate::subscriber::Downlink;
use crate::worker::{LegId, State};
use crate::{Gateway, LegKind, MAX_LEGS, SfuError, SfuEvent};

impl State {
    pub(crate) fn on_command(&mut self, command: Command, now: Instant) {
        // A caller that has gone away does not need its reply.
        match command {
            Command::Join { room, who, kind, publish, reply } => {
                let _ = reply.send(self.join(room, who, kind, publish, now));
            }
            Command::Offer { room, gateway, reply } => {
                let _ = reply.send(self.offer(room, &gateway, now));
            }
            Command::Answer { room, who, answer, reply } => {
                let _ = reply.send(self.answer(room, who, answer, now));
            }
            Command::Watch { room, who, track, on, reply } => {
                let _ = reply.send(self.watch(room, who, track, on, now));
            }
            Command::Gate { room, who, open, reply } => {
                self.gate(room, who, open, now);
                let _ = reply.send(());
            }
            Command::Leave { room, who, reply } => {
                self.leave(room, who, now);
                let _ = reply.send(());
            }
            Command::CloseRoom { room, reply } => {
                self.close_room(room);
                let _ = reply.send(());
            }
            Command::Stream { socket } => {
                if let Err(error) = self.streams.adopt(socket, now) {
                    tracing::debug!(%error, "a media connection is not taken");
                }
            }
            Command::Legs { room, reply } => {
                let _ = reply.send(self.leg_states(room));
            }
        }
    }

    fn join(
        &mut self,
        room: SessionId,
        who: Pseudonym,
        kind: LegKind,
        publish: Vec<TrackInfo>,
        now: Instant,
    ) -> Result<(), SfuError> {
        let (place, serial) = self.place(room, who)?;
        let leg = Leg::new(&self.engine, now, (place, serial), (who, kind), publish)?;
        self.seat(room, leg, now);
        Ok(())
    }

    /// A client that offers: its leg is made from the offer, which is foreign text.
    fn offer(&mut self, room: SessionId, gateway: &Gateway, now: Instant) -> Result<String, SfuError> {
        let (place, serial) = self.place(room, gateway.who)?;
        let engine = &self.engine;
        let made = std::panic::AssertUnwindSafe(|| Leg::from_offer(engine, now, (place, serial), gateway));
        let (leg, answer) = std::panic::catch_unwind(made).unwrap_or_else(|_| {
            self.trouble.broken += 1;
            Err(SfuError::BadOffer { why: "it broke the connection.".into() })
        })?;
        self.seat(room, leg, now);
        Ok(answer)
    }

    /// Where the next leg of a room goes, and its serial number.
    fn place(&mut self, room: SessionId, who: Pseudonym) -> Result<(usize, u64), SfuError> {
        let at = self.room_of.get(&room).copied();
        let legs =
            |room: &Room| room.members.iter().filter(|(other, member)| **other != who && member.leg.is_some()).count();
        if at.and_then(|at| self.rooms[at].as_ref()).is_some_and(|room| legs(room) >= MAX_LEGS) {
            return Err(SfuError::RoomFull(MAX_LEGS));
        }
        self.next_serial += 1;
        Ok((at.unwrap_or(self.rooms.len()), self.next_serial))
    }

    /// Takes a leg into its room, in place of an older one of the same participant.
    fn seat(&mut self, room: SessionId, mut leg: Leg, now: Instant) {
        let who = leg.who;
        let at = self.room_at(room);
        leg.room = at;
        let old = self.rooms[at].as_ref().and_then(|room| room.members.get(&who)).and_then(|member| member.leg);
        if let Some(old) = old {
            self.end(old, Some("replaced"));
        }
        let id = self.legs.iter().position(Option::is_none).unwrap_or_else(|| {
            self.legs.push(None);
            self.legs.len() - 1
        });
        self.by_ufrag.insert(leg.ufrag.clone(), id);
        if let Some(room) = self.rooms[at].as_mut() {
            let member = room.members.entry(who).or_default();
            member.leg = Some(id);
            leg.open = member.open;
        }
        self.legs[id] = Some(Box::new(leg));
        self.refresh(at, now);
        self.queue(id);
    }

    fn answer(&mut self, room: SessionId, who: Pseudonym, answer: RtcAnswer, now: Instant) -> Result<(), SfuError> {
        let (at, id) = self.leg_id(room, who)?;
        let Some(leg) = self.legs[id].as_mut() else { return Err(SfuError::NoLeg(who)) };
        let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| leg.answer(now, answer)));
        let Ok(taken) = taken else {
            self.ended.push((id, "broken"));
            return Err(SfuError::BadAnswer { why: "it broke the connection".into() });
        };
        let answered = taken?;
        self.queue(id);
        self.refresh(at, now);
        for line in answered.started {
            self.begin(id, line, now);
        }
        Ok(())
    }

    fn watch(
        &mut self,
        room: SessionId,
        who: Pseudonym,
        track: TrackId,
        on: bool,
        now: Instant,
    ) -> Result<(), SfuError> {
        let (at, _) = self.leg_id(room, who)?;
        if !self.uplinks(at).iter().any(|flowing| flowing.info.track == track) {
            return Err(SfuError::NoTrack(track));
        }
        if let Some(room) = self.rooms[at].as_mut() {
            room.watch(who, track, on);
        }
        self.refresh(at, now);
        Ok(())
    }

    fn gate(&mut self, room: SessionId, who: Pseudonym, open: bool, now: Instant) {
        let at = self.room_at(room);
        let Some(room) = self.rooms[at].as_mut() else { return };
        let member = room.members.entry(who).or_default();
        member.open = open;
        if let Some(leg) = member.leg.and_then(|id| self.legs[id].as_mut()) {
            leg.open = open;
            if !open {
                leg.uplinks.iter_mut().for_each(|uplink| uplink.history.forget());
            }
        }
        self.refresh(at, now);
    }

    fn leave(&mut self, room: SessionId, who: Pseudonym, now: Instant) {
        let Some(at) = self.room_of.get(&room).copied() else { return };
        let leg = self.rooms[at].as_mut().and_then(|room| room.members.remove(&who)).and_then(|member| member.leg);
        if let Some(id) = leg {
            self.end(id, None);
        }
        self.refresh(at, now);
        self.forget_empty(at);
    }

    fn close_room(&mut self, room: SessionId) {
        let Some(at) = self.room_of.get(&room).copied() else { return };
        let Some(room) = self.rooms[at].as_mut() else { return };
        let legs: Vec<LegId> =
            std::mem::take(&mut room.members).into_values().filter_map(|member| member.leg).collect();
        for id in legs {
            self.end(id, None);
        }
        self.forget_empty(at);
    }

    fn leg_states(&self, room: SessionId) -> Vec<LegState> {
        let room = self.room_of.get(&room).and_then(|at| self.rooms[*at].as_ref());
        let ids = room.into_iter().flat_map(|room| room.members.values()).filter_map(|member| member.leg);
        ids.filter_map(|id| self.legs[id].as_ref()).map(|leg| leg.state.clone()).collect()
    }

    fn room_at(&mut self, id: SessionId) -> usize {
        if let Some(at) = self.room_of.get(&id) {
            return *at;
        }
        let at = self.rooms.iter().position(Option::is_none).unwrap_or_else(|| {
            self.rooms.push(None);
            self.rooms.len() - 1
        });
        self.rooms[at] = Some(Room::new(id));
        self.room_of.insert(id, at);
        at
    }

    fn forget_empty(&mut self, at: usize) {
        if let Some(id) = self.rooms[at].as_ref().filter(|room| room.is_empty()).map(|room| room.id) {
            self.rooms[at] = None;
            self.room_of.remove(&id);
        }
    }

    fn leg_id(&self, room: SessionId, who: Pseudonym) -> Result<(usize, LegId), SfuError> {
        let at = self.room_of.get(&room).copied().ok_or(SfuError::NoRoom(room))?;
        let member = self.rooms[at].as_ref().and_then(|room| room.members.get(&who));
        let id = member.and_then(|member| member.leg).ok_or(SfuError::NoLeg(who))?;
        Ok((at, id))
    }

    /// All tracks announced in a room, whatever the gates say.
    fn uplinks(&self, at: usize) -> Vec<Flowing> {
        let Some(room) = self.rooms[at].as_ref() else { return Vec::new() };
        let mut found = Vec::new();
        for (owner, member) in &room.members {
            let Some((id, leg)) = member.leg.and_then(|id| Some((id, self.legs[id].as_ref()?))) else { continue };
            if leg.kind == LegKind::Archivist {
                continue;
            }
            for (uplink, track) in leg.uplinks.iter().enumerate() {
                found.push(Flowing { owner: *owner, leg: id, uplink, info: track.info.clone() });
            }
        }
        found
    }

    /// Brings lines, subscriptions, voices and watchers in step with the room.
    pub(crate) fn refresh(&mut self, at: usize, now: Instant) {
        let all = self.uplinks(at);
        let Some(room) = self.rooms[at].as_mut() else { return };
        let id = room.id;
        room.forget_tracks(|track| all.iter().any(|flowing| flowing.info.track == track));
        let open = |who: &Pseudonym| room.members.get(who).is_some_and(|member| member.open);
        let flowing: Vec<Flowing> = all.iter().filter(|track| open(&track.owner)).cloned().collect();
        let legs: Vec<(Pseudonym, LegId)> =
            room.members.iter().filter_map(|(who, member)| Some((*who, member.leg?))).collect();
        let narrow = |id: LegId, wants| match self.legs[id].as_ref().filter(|leg| leg.kind == LegKind::Gateway) {
            Some(leg) => one_of_each(wants, leg.prefers),
            None => wants,
        };
        let wants: Vec<_> = legs.iter().map(|(who, id)| narrow(*id, room.wants(*who, &flowing))).collect();
        let voices: Vec<&Flowing> = flowing.iter().filter(|track| track.info.source == TrackSource::Voice).collect();
        room.voices.set(voices.iter().map(|track| track.info.track));
        for track in &all {
            if let Some(leg) = self.legs[track.leg].as_mut() {
                let place = voices.iter().position(|voice| voice.info.track == track.info.track);
                leg.uplinks[track.uplink].voice = place.unwrap_or(usize::MAX);
            }
        }
        let mut offered = Vec::new();
        for ((who, leg_id), wants) in legs.iter().zip(wants) {
            let Some(leg) = self.legs[*leg_id].as_mut() else { continue };
            leg.set_wants(wants);
            match leg.negotiate(now) {
                Ok(Some(offer)) => {
                    let fresh = |line: &Downlink| line.assigned.is_some() && !line.live;
                    offered.extend(
                        (0..leg.downlinks.len()).filter(|at| fresh(&leg.downlinks[*at])).map(|at| (*leg_id, at)),
                    );
                    self.events.tell(SfuEvent::Offer { room: id, who: *who, offer });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "a leg cannot be offered its lines and is ended");
                    self.ended.push((*leg_id, "broken"));
                }
            }
        }
        self.connect(&all, &legs);
        self.tell_watched(id, &all, &legs);
        // On its way while the client answers and connects.
        for (leg, line) in offered {
            self.want_key_frame(leg, line, now);
        }
    }

    /// Rebuilds who gets what from whom.
    fn connect(&mut self, all: &[Flowing], legs: &[(Pseudonym, LegId)]) {
        for track in all {
            if let Some(leg) = self.legs[track.leg].as_mut() {
                leg.uplinks[track.uplink].subscriptions.clear();
            }
        }
        for (_, id) in legs {
            for line in 0..self.legs[*id].as_ref().map_or(0, |leg| leg.downlinks.len()) {
                let Some(leg) = self.legs[*id].as_mut() else { continue };
                let downlink = &mut leg.downlinks[line];
                let Some(assigned) = downlink.assigned.clone() else { continue };
                let source =
                    all.iter().find(|track| track.owner == assigned.owner && track.info.track == assigned.info.track);
                let Some(source) = source else { continue };
                let Some(publisher) = self.legs[source.leg].as_mut() else { continue };
                publisher.uplinks[source.uplink].subscriptions.push(Subscription { leg: *id, line });
                let serial = publisher.serial;
                if let Some(leg) = self.legs[*id].as_mut() {
                    let downlink = &mut leg.downlinks[line];
                    if downlink.source != Some(serial) {
                        downlink.source = Some(serial);
                        downlink.restart();
                    }
                }
            }
        }
    }

    fn tell_watched(&mut self, room: SessionId, all: &[Flowing], legs: &[(Pseudonym, LegId)]) {
        for track in all {
            let wanted = legs.iter().filter_map(|(_, id)| self.legs[*id].as_ref());
            let on = wanted.into_iter().any(|leg| leg.wants(track.owner, &track.info));
            let Some(uplink) = self.legs[track.leg].as_mut().map(|leg| &mut leg.uplinks[track.uplink]) else {
                continue;
            };
            if uplink.watched != on {
                uplink.watched = on;
                self.events.tell(SfuEvent::Watched { room, who: track.owner, track: track.info.track, on });
            }
        }
    }

    /// The track behind a subscriber's line.
    pub(crate) fn source(&self, subscriber: LegId, line: usize) -> Option<(LegId, usize)> {
        let leg = self.legs.get(subscriber)?.as_ref()?;
        let assigned = leg.downlinks.get(line)?.assigned.as_ref()?;
        let room = self.rooms[leg.room].as_ref()?;
        let publisher = room.members.get(&assigned.owner)?.leg?;
        let uplinks = &self.legs[publisher].as_ref()?.uplinks;
        let at = uplinks.iter().position(|uplink| uplink.info.track == assigned.info.track)?;
        Some((publisher, at))
    }

    /// Marks legs that have fallen silent or said goodbye.
    pub(crate) fn end_silent(&mut self, now: Instant) {
        for (id, leg) in self.legs.iter_mut().enumerate() {
            let Some(leg) = leg else { continue };
            if let Some(reason) = leg.gone(now) {
                self.ended.push((id, reason));
            }
        }
    }

    /// Ends the legs marked in this turn. True: there were some.
    pub(crate) fn bury(&mut self, now: Instant) -> bool {
        let ended = std::mem::take(&mut self.ended);
        for (id, reason) in &ended {
            let Some(leg) = self.legs[*id].as_ref() else { continue };
            self.trouble.broken += u64::from(*reason == "broken");
            let (room, who) = (leg.room, leg.who);
            if let Some(member) = self.rooms[room].as_mut().and_then(|room| room.members.get_mut(&who)) {
                member.leg = None;
            }
            self.end(*id, Some(reason));
            self.refresh(room, now);
        }
        !ended.is_empty()
    }

    /// Says goodbye to the client, frees the place, and tells the server unless it asked for this.
    fn end(&mut self, id: LegId, reason: Option<&'static str>) {
        let Some(mut leg) = self.legs[id].take() else { return };
        let (outbox, streams) = (&mut self.outbox, &mut self.streams);
        let closed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = leg.connection.close();
            while let Some(datagram) = leg.connection.poll_write() {
                let to = datagram.transport.peer_addr;
                match datagram.transport.transport_protocol {
                    // A goodbye that finds no room is noticed as silence.
                    TransportProtocol::TCP => _ = streams.queue(to, &datagram.message),
                    _ => outbox.push((Route::Udp(to), datagram.message)),
                }
            }
        }));
        self.trouble.broken += u64::from(closed.is_err());
        self.by_ufrag.remove(&leg.ufrag);
        self.by_address.retain(|_, owner| *owner != id);
        self.streams.close_leg(id);
        self.to_drain.retain(|queued| *queued != id);
        for uplink in leg.uplinks.iter().filter(|uplink| uplink.watched) {
            if let (Some(room), true) = (self.rooms[leg.room].as_ref(), reason != Some("replaced")) {
                let track = uplink.info.track;
                self.events.tell(SfuEvent::Watched { room: room.id, who: leg.who, track, on: false });
            }
        }
        if let (Some(reason), Some(room)) = (reason, self.rooms[leg.room].as_ref()) {
            self.events.tell(SfuEvent::Closed { room: room.id, who: leg.who, reason });
        }
    }

    /// The worker stops: everybody is told.
    pub(crate) fn close_all(&mut self) {
        for id in 0..self.legs.len() {
            self.end(id, None);
        }
    }
}
