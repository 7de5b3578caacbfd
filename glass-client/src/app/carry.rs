//! Carries out what the core decided: events, the media connection, devices.

use std::time::Instant;

use lotse_payload::pointer::PointerMessage;
use lotse_protocol::{
    command::ClientMessage,
    id::{CaseId, EventId, SessionId, TrackId},
    policy::Role,
    signal::Offer,
};

use super::{App, COMMIT_PAUSE, Own};
use crate::{
    core::{Action, Event},
    link::{
        identity::InHand,
        ladder::Pictures,
        media::{Media, MediaEvent},
    },
};

impl App {
    pub(super) async fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::OpenCase => self.make_case(),
                Action::Join => self.join(),
                Action::Commit { kind, session, payload } => {
                    let now = self.clock.aligned_ms();
                    let message = self.author.as_mut().and_then(|a| a.write(kind, session, payload, None, now));
                    message.into_iter().for_each(|m| self.send(m));
                }
                Action::JoinMedia(session) => self.join_media(session).await,
                Action::LeaveMedia => self.leave_media().await,
                Action::Send(on) => {
                    if let Ok(feed) = self.feed.lock() {
                        feed.send(on);
                    }
                }
                Action::LongFrames(on) => {
                    if let Ok(feed) = self.feed.lock() {
                        feed.long_frames(on);
                    }
                }
                Action::Private(on) => {
                    if let Ok(feed) = self.feed.lock() {
                        feed.cover(on);
                    }
                }
                Action::Prepare(id) => self.prepare(id),
                Action::DecodeAhead(frame) => {
                    if let Some(frames) = self.feed.try_lock().ok().and_then(|f| f.find(frame)) {
                        self.preparer.ahead(frames);
                    }
                }
                Action::Retry => {
                    let feed = self.feed.clone();
                    // Opening devices may take seconds.
                    tokio::task::spawn_blocking(move || {
                        if let Ok(mut feed) = feed.lock() {
                            feed.restart();
                        }
                    });
                }
                Action::Remember(state) => {
                    self.unremembered = Some(state.map(|(case, session)| InHand { case, session }));
                    self.remember();
                }
            }
        }
    }

    /// Keeps the case in hand for the next start.
    pub(super) fn remember(&mut self) {
        let Some(in_hand) = self.unremembered else { return };
        match self.identity.remember(in_hand) {
            Ok(()) => self.unremembered = None,
            Err(e) => tracing::error!("a restart would not find its case: {e}"),
        }
    }

    fn make_case(&self) {
        if let Some((case, _)) = self.case {
            return self.open(case);
        }
        let (api, own, now) = (self.api.clone(), self.own.clone(), self.clock.aligned_ms());
        tokio::spawn(async move {
            let made = match api.open_case(now).await {
                Ok(summary) => Ok((summary.case, api.card(&summary, now).await)),
                Err(e) => Err(e),
            };
            // The loop has ended: nobody needs the case.
            let _ = own.send(Own::CaseMade(made)).await;
        });
    }

    fn join(&mut self) {
        let device = &self.config.device;
        let name = self.api.person();
        let label = match self.config.hud.language {
            crate::config::Language::De => format!("Brille {}", device.name),
            crate::config::Language::En => format!("Smart glasses {}", device.name),
        };
        let now = self.clock.aligned_ms();
        let message =
            self.author.as_mut().and_then(|a| a.join(Role::Technician, name, &label, self.identity.key(), now));
        message.into_iter().for_each(|m| self.send(m));
    }

    pub(super) async fn on_refused(
        &mut self,
        id: Option<EventId>,
        case: Option<CaseId>,
        last_device_seq: Option<u64>,
        code: String,
        message: String,
    ) {
        match (code.as_str(), last_device_seq) {
            ("stale_device_seq", Some(last)) => {
                let again = self.author.as_mut().map(|a| a.renumber(last)).unwrap_or_default();
                again.into_iter().for_each(|m| self.send(m));
                return;
            }
            ("no_such_case" | "forbidden", _) if id.is_none() && case.is_some() && case == self.case.map(|c| c.0) => {
                tracing::warn!("the case of the last start cannot be opened: {message}");
                self.case = None;
                self.author = None;
                self.chain = None;
                return self.event(Event::CaseGone).await;
            }
            // An answer or a DONE that was said stays said: it goes on trying, and the technician sees why it takes long.
            ("busy" | "storage", _) if id.is_some() => {
                self.commit_again_soon();
                if code == "storage" {
                    let message = self.config.hud.language.t(
                        "Der Server kann es gerade nicht speichern. Neuer Versuch läuft; bitte die Administration verständigen.",
                        "The server cannot store it now. Trying again; please tell your administrator.",
                    );
                    self.event(Event::Refused { code: "storage".into(), message: message.into() }).await;
                }
                return;
            }
            // Sent again by itself once the case is open.
            ("case_not_open" | "busy", _) => return,
            _ => {}
        }
        if let (Some(id), Some(author)) = (id, &mut self.author) {
            author.settled(id);
        }
        self.event(Event::Refused { code, message }).await;
    }

    fn commit_again_soon(&mut self) {
        if !std::mem::replace(&mut self.pausing, true) {
            let own = self.own.clone();
            tokio::spawn(async move {
                tokio::time::sleep(COMMIT_PAUSE).await;
                let _ = own.send(Own::CommitAgain).await;
            });
        }
    }

    async fn join_media(&mut self, session: SessionId) {
        let Some((case, _)) = self.case else { return };
        if !self.new_media(session).await {
            return self.media_failed().await;
        }
        let publish = self.feed.lock().ok().and_then(|f| f.publisher().map(|p| p.infos())).unwrap_or_default();
        self.send(ClientMessage::RtcJoin { case, session, publish });
    }

    /// A fresh connection in the place of the one there is. False: the machine has none to give.
    async fn new_media(&mut self, session: SessionId) -> bool {
        self.drop_media().await;
        let made = Media::new(
            session,
            &self.config.server.url,
            self.media_generation,
            self.config.call.follow_link.then(|| self.ladder.path_bps()),
            self.media_events.clone(),
            self.voices.clone(),
        );
        match made.await {
            Ok(media) => self.media = Some(media),
            Err(e) => tracing::warn!("{e}"),
        }
        self.media.is_some()
    }

    async fn drop_media(&mut self) {
        self.media_generation += 1;
        if let Some(old) = self.media.take() {
            old.close().await;
        }
    }

    /// What the wearer is told of the way to the server.
    pub(super) async fn look_at_link(&mut self) {
        let path = self.media.as_ref().and_then(Media::path).filter(|path| path.limits);
        let pictures = if self.media.is_some() { self.ladder.pictures() } else { Pictures::Moving };
        self.event(Event::Carries { bps: path.map(|path| path.target_bps), pictures }).await;
    }

    /// The picture, and the voice's frames, follow the way to the server.
    pub(super) fn follow_link(&mut self) {
        let share = match self.media.as_ref().and_then(Media::path) {
            Some(path) => self.ladder.step(Instant::now(), &path),
            None => self.ladder.wake(),
        };
        if let Some(share) = share
            && let Ok(feed) = self.feed.lock()
        {
            tracing::info!("the link carries {} kbit/s: {share:?}", (self.ladder.path_bps() / 1e3).round());
            feed.follow(share);
            if let Some(publisher) = feed.publisher() {
                publisher.set_pace(self.ladder.pace_bps());
            }
        }
    }

    pub(super) async fn leave_media(&mut self) {
        self.drop_media().await;
        if let Ok(feed) = self.feed.lock()
            && let Some(publisher) = feed.publisher()
        {
            publisher.bind(Vec::new());
        }
    }

    pub(super) async fn on_offer(&mut self, session: SessionId, offer: Offer) {
        let ours = self.media.as_ref().filter(|m| m.session() == session);
        // What was answered before was an offer for a leg that our last join has ended: it came late.
        let of_another = ours.and_then(Media::leg).is_some_and(|leg| leg != offer.leg);
        if of_another && !self.new_media(session).await {
            return self.media_failed().await;
        }
        let publisher = self.feed.lock().ok().and_then(|f| f.publisher().cloned());
        let Some((media, publisher)) = self.media.as_mut().filter(|m| m.session() == session).zip(publisher) else {
            return;
        };
        match media.answer(&offer, &publisher, self.identity.key()).await {
            Ok(answer) => self.send(ClientMessage::RtcAnswer { session, answer }),
            Err(e) => {
                tracing::warn!("{e}");
                self.media_failed().await;
            }
        }
    }

    fn is_own(&self, track: TrackId) -> bool {
        let feed = self.feed.lock();
        feed.is_ok_and(|feed| feed.publisher().is_some_and(|publisher| publisher.source_of(track).is_some()))
    }

    pub(super) async fn on_media(&mut self, generation: u64, event: MediaEvent) {
        if generation != self.media_generation {
            return;
        }
        match event {
            MediaEvent::Connected => {
                self.media_retry.reset();
                if let Ok(feed) = self.feed.lock() {
                    feed.key_frame(lotse_protocol::signal::TrackSource::Main);
                }
                self.event(Event::Media(true)).await;
            }
            MediaEvent::Failed => {
                tracing::warn!("the media connection failed");
                self.media_failed().await;
            }
            MediaEvent::Pointer { from, message } => {
                // On somebody else's picture: here it would point at the wrong thing.
                let elsewhere = match &message {
                    PointerMessage::Pointer { track: Some(track), .. } => !self.is_own(*track),
                    _ => false,
                };
                if !elsewhere {
                    self.event(Event::Pointer { from, message }).await;
                }
            }
            MediaEvent::KeyFrame(source) => {
                if let Ok(feed) = self.feed.lock() {
                    feed.key_frame(source);
                }
            }
        }
    }

    /// Drops the connection and joins again after a pause.
    pub(super) async fn media_failed(&mut self) {
        self.leave_media().await;
        let (own, generation) = (self.own.clone(), self.media_generation);
        let pause = self.media_retry.next(rand::random());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = own.send(Own::MediaAgain(generation)).await;
        });
    }
}
