//! The state machine by itself: stories, and rules that hold after any order of events.

use lotse_payload::{
    LinkState, LinkTrouble, annotation::FrameConfidence, case_card::JoinedPayload, consent::NoticeShown,
    pointer::MovingMark, receipt::PictureOrigin, recording::RecordingStarted,
};
use lotse_protocol::{
    envelope::{GatewayJoined, GatewayWay, Joined, Left, LeftWhy},
    id::{DeviceId, FrameId, PublicKey, Signature, TrackId},
    policy::Role,
    session::Answer,
};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::core::view::{Link, Recording, Screen};

struct Stage {
    core: Core,
    now: i64,
    me: Pseudonym,
    expert: Pseudonym,
    archivist: Pseudonym,
    case: CaseId,
    done: Vec<Action>,
}

fn pseudonym(n: u128) -> Pseudonym {
    Pseudonym(Uuid::from_u128(n))
}

impl Stage {
    fn new() -> Self {
        Self::with(true, false)
    }

    fn with(on_start: bool, remembers: bool) -> Self {
        let card =
            CaseCard { title: "Pump leaks".into(), asset: String::new(), customer: String::new(), site: String::new() };
        let core = Core::new(Settings { language: Language::En, on_start, remembers, card });
        let (me, expert, archivist) = (pseudonym(1), pseudonym(2), pseudonym(3));
        Self { core, now: 1_000_000, me, expert, archivist, case: CaseId(Uuid::from_u128(9)), done: Vec::new() }
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let actions = self.core.event(self.now, event);
        // What is committed comes back in the log, as the server would send it.
        for action in &actions {
            self.echo(action);
        }
        self.done.extend(actions.clone());
        actions
    }

    fn say(&mut self, word: Word) -> Vec<Action> {
        let actions =
            self.core.word(self.now, word).unwrap_or_else(|e| panic!("{}: {e} on {}", word.text(), self.screen()));
        for action in &actions {
            self.echo(action);
        }
        self.done.extend(actions.clone());
        actions
    }

    fn echo(&mut self, action: &Action) {
        match action {
            Action::Join => self.joined(self.me, Role::Technician, "Mara"),
            Action::Commit { kind, session, payload } => {
                let payload = match (*kind, payload) {
                    (kind::RECEIPT, Some(p)) => Payload::Receipt(serde_json::from_value(p.clone()).expect("receipt")),
                    _ => Payload::None,
                };
                self.log(self.me, kind, *session, None, payload);
            }
            _ => {}
        }
    }

    fn log(
        &mut self,
        author: Pseudonym,
        kind: &str,
        session: Option<SessionId>,
        clear: Option<Value>,
        payload: Payload,
    ) -> EventId {
        let id = EventId(Uuid::new_v4());
        let author = AuthorFields {
            v: 1,
            case: self.case,
            id,
            kind: kind.into(),
            session,
            author,
            device: DeviceId(Uuid::nil()),
            device_seq: 1,
            captured_at_ms: self.now,
            item: None,
            attachments: Vec::new(),
            clear,
        };
        self.event(Event::Log(Box::new(LogEvent { author, payload })));
        id
    }

    fn joined(&mut self, who: Pseudonym, role: Role, name: &str) {
        let clear = serde_json::to_value(Joined { role, case_key: PublicKey([0; 32]) }).ok();
        let payload = JoinedPayload {
            name: name.into(),
            device: "x".into(),
            device_key: PublicKey([0; 32]),
            device_sig: Signature([0; 64]),
        };
        self.log(who, kind::JOINED, None, clear, Payload::Joined(payload));
    }

    fn screen(&self) -> &'static str {
        self.core.view(self.now).screen.name()
    }

    fn session(&self) -> Option<SessionId> {
        self.core.session_id()
    }

    fn called(mut self) -> Self {
        self.event(Event::Connected);
        self.event(Event::CaseOpened { case: self.case, me: self.me, fresh: true });
        self.event(Event::CaughtUp);
        self
    }

    fn expert_comes(&mut self) {
        self.joined(self.archivist, Role::Archivist, "Archive Linz");
        self.log(self.archivist, kind::SESSION_JOINED, self.session(), None, Payload::None);
        self.joined(self.expert, Role::Expert, "Anton Weber");
        self.log(self.expert, kind::SESSION_JOINED, self.session(), None, Payload::None);
    }

    fn live(mut self, word: Word) -> Self {
        self.expert_comes();
        self.say(word);
        self.log(self.expert, kind::CONSENT_RECORD, self.session(), None, Payload::None);
        self.event(Event::Media(true));
        self
    }

    fn recording(&mut self) {
        let payload = Payload::RecordingStarted(RecordingStarted { at_ms: self.now, consented: vec![] });
        self.log(self.archivist, kind::RECORDING_STARTED, self.session(), None, payload);
    }

    fn instruction(&mut self) -> EventId {
        let instruction = Instruction {
            frame: FrameId { track: TrackId(Uuid::nil()), rtp: 5 },
            confidence: FrameConfidence::Exact,
            width: 1280,
            height: 720,
            at_ms: self.now,
            text: "Loosen".into(),
            marks: vec![],
            replaces: None,
        };
        self.log(self.expert, kind::INSTRUCTION, self.session(), None, Payload::Instruction(instruction))
    }

    fn shown(&mut self) -> EventId {
        let id = self.instruction();
        self.event(Event::PictureReady { instruction: id, origin: PictureOrigin::Ring });
        self.event(Event::Presented { instruction: Some(id) });
        id
    }

    fn committed(&self, wanted: &str) -> Vec<&Value> {
        self.done
            .iter()
            .filter_map(|a| match a {
                Action::Commit { kind, payload, .. } if *kind == wanted => {
                    Some(payload.as_ref().unwrap_or(&Value::Null))
                }
                _ => None,
            })
            .collect()
    }

    fn sending(&self) -> bool {
        self.done.iter().rev().find_map(|a| if let Action::Send(on) = a { Some(*on) } else { None }).unwrap_or(false)
    }
}

#[test]
fn it_calls_by_itself_in_the_order_of_the_contract() {
    let mut stage = Stage::new();
    assert_eq!(stage.event(Event::Connected), [Action::OpenCase]);
    stage.event(Event::CaseOpened { case: stage.case, me: stage.me, fresh: true });
    let actions = stage.event(Event::CaughtUp);
    assert_eq!(actions[0], Action::Join);
    assert!(
        matches!(&actions[1], Action::Commit { kind: kind::CARD, payload: Some(p), .. } if p["title"] == "Pump leaks")
    );
    assert!(matches!(&actions[2], Action::Commit { kind: kind::SESSION_CALLED, session: Some(_), .. }));
    assert_eq!(stage.screen(), "calling");
    assert!(stage.done.iter().any(|a| matches!(a, Action::JoinMedia(_))));
    assert!(!stage.sending(), "nothing leaves while waiting");
}

#[test]
fn without_on_start_it_waits_at_home_for_the_word() {
    let mut stage = Stage::with(false, false);
    stage.event(Event::Connected);
    assert_eq!(stage.screen(), "home");
    assert_eq!(stage.say(Word::Call), [Action::OpenCase]);
}

#[test]
fn consent_names_everybody_is_logged_and_comes_before_any_media() {
    let mut stage = Stage::new().called();
    stage.expert_comes();
    assert_eq!(stage.screen(), "consent");
    assert!(!stage.sending());
    let notice: NoticeShown =
        serde_json::from_value((*stage.committed(kind::NOTICE_SHOWN).last().expect("logged")).clone()).expect("notice");
    assert!(notice.text.contains("Anton Weber") && notice.text.contains("Archive Linz"), "{}", notice.text);
    assert_eq!((notice.watchers, notice.archivist), (vec![stage.expert], Some(stage.archivist)));
    assert!(stage.core.view(stage.now).commands.iter().all(|c| !c.focus), "no answer is preselected");
    stage.say(Word::YesRecord);
    assert!(stage.sending());
    assert_eq!(stage.screen(), "live");
}

#[test]
fn a_foreign_watcher_that_comes_late_is_read_at_once_and_the_log_learns_so() {
    let mut stage = Stage::new().called().live(Word::YesRecord);
    let (who, before) = (Pseudonym(Uuid::new_v4()), stage.committed(kind::NOTICE_SHOWN).len());
    let watching = |stage: &Stage| stage.core.view(stage.now).status.watchers;
    assert_eq!(watching(&stage), ["Anton Weber"]);
    let joined = |way| serde_json::to_value(GatewayJoined { who, way, name: "Control room".into() }).ok();
    stage.log(stage.expert, kind::GATEWAY_JOINED, stage.session(), joined(GatewayWay::Watch), Payload::None);
    let notices = stage.committed(kind::NOTICE_SHOWN);
    assert_eq!(notices.len(), before + 1);
    let notice: NoticeShown = serde_json::from_value((*notices.last().expect("logged")).clone()).expect("notice");
    assert!(notice.text.contains("Control room"), "{}", notice.text);
    let toast = stage.core.view(stage.now).toast.expect("said at once");
    assert!(toast.contains("Control room"), "{toast}");
    assert!(stage.done.iter().any(|a| matches!(a, Action::LongFrames(true))), "frames that it can take");
    // Everybody has been shown it: only then does it get anything, and stand among those who watch.
    assert_eq!(watching(&stage), ["Anton Weber"]);
    for person in [stage.me, stage.expert] {
        stage.log(person, kind::NOTICE_SHOWN, stage.session(), None, Payload::None);
    }
    assert_eq!(watching(&stage), ["Anton Weber", "Control room"]);
    assert_eq!(stage.committed(kind::NOTICE_SHOWN).len(), before + 1, "told once");
}

#[test]
fn why_a_word_does_nothing_is_said_in_the_language_of_the_display() {
    let called = || {
        let mut stage = Stage::new().called();
        stage.joined(stage.expert, Role::Expert, "Anton Weber");
        stage
    };
    let asked = || {
        let mut stage = called();
        stage.log(stage.expert, kind::SESSION_JOINED, stage.session(), None, Payload::None);
        stage
    };
    let mut reasons = std::collections::HashSet::new();
    for story in [&Stage::new as &dyn Fn() -> Stage, &called, &asked] {
        for word in Word::ALL {
            let why = [Language::En, Language::De].map(|language| {
                let mut stage = story();
                stage.core.settings.language = language;
                stage.core.word(stage.now, word).err()
            });
            match why {
                [None, None] => {}
                [Some(en), Some(de)] => {
                    assert_ne!(en, de, "{}", word.text());
                    reasons.insert(de);
                }
                other => panic!("{}: {other:?}", word.text()),
            }
        }
    }
    for de in [
        "kein Archivar ist verbunden, nichts kann aufgenommen werden",
        "es wird schon gerufen",
        "es gibt kein Gespräch",
    ] {
        assert!(reasons.contains(de), "{reasons:?}");
    }
}

#[test]
fn without_an_archivist_a_yes_is_not_offered() {
    let mut stage = Stage::new().called();
    stage.joined(stage.expert, Role::Expert, "Anton Weber");
    stage.log(stage.expert, kind::SESSION_JOINED, stage.session(), None, Payload::None);
    assert_eq!(stage.screen(), "consent");
    assert_eq!(stage.core.word(stage.now, Word::YesRecord), Err("no archivist is connected, nothing can be recorded"));
    stage.say(Word::CallOnly);
    assert_eq!(stage.screen(), "live");
    assert_eq!(stage.core.view(stage.now).status.recording, Recording::Off);
}

#[test]
fn a_no_keeps_the_call_and_lets_nothing_out() {
    let mut stage = Stage::new().called();
    stage.expert_comes();
    stage.say(Word::RefuseCall);
    assert_eq!(stage.screen(), "no-media");
    assert!(!stage.sending());
    stage.say(Word::CallOnly);
    assert_eq!(stage.screen(), "live");
    assert!(stage.sending());
}

#[test]
fn recording_is_shown_when_it_runs_and_stops_at_a_word() {
    let mut stage = Stage::new().called().live(Word::YesRecord);
    assert_eq!(stage.core.view(stage.now).status.recording, Recording::Starting);
    stage.recording();
    assert!(matches!(stage.core.view(stage.now).status.recording, Recording::On { .. }));
    assert_eq!(stage.core.view(stage.now).status.watchers, ["Anton Weber"]);
    stage.say(Word::StopRecording);
    assert_eq!(stage.committed(kind::CONSENT_CALL_ONLY).len(), 1);
    assert_eq!(stage.core.view(stage.now).status.recording, Recording::Off);
    assert!(stage.sending(), "the call goes on");
    assert!(stage.core.word(stage.now, Word::StopRecording).is_err());
}

#[test]
fn a_lost_archivist_leaves_no_recording_on_the_display() {
    let mut stage = Stage::new().called().live(Word::YesRecord);
    stage.recording();
    // It cannot write that it stopped: the server says that it is gone.
    let left = serde_json::to_value(Left { who: stage.archivist, why: LeftWhy::Lost }).ok();
    stage.log(pseudonym(99), kind::SESSION_LEFT, stage.session(), left, Payload::None);
    assert_eq!(stage.core.view(stage.now).status.recording, Recording::Off);
    assert!(stage.sending(), "the call goes on");
}

#[test]
fn an_instruction_is_shown_with_its_picture_and_receipted_step_by_step() {
    let mut stage = Stage::new().called().live(Word::YesRecord);
    let id = stage.instruction();
    assert!(stage.done.contains(&Action::Prepare(id)));
    assert_eq!(stage.screen(), "live", "not before the picture is there");
    stage.event(Event::PictureReady { instruction: id, origin: PictureOrigin::Ring });
    assert_eq!(stage.screen(), "instruction");
    assert!(stage.committed(kind::RECEIPT).is_empty(), "not shown before the display says so");
    stage.event(Event::Presented { instruction: Some(id) });
    stage.event(Event::Presented { instruction: Some(id) });
    stage.now += 3_100;
    stage.event(Event::Tick);
    stage.say(Word::Done);
    let states: Vec<&str> =
        stage.committed(kind::RECEIPT).iter().map(|r| r["state"].as_str().expect("state")).collect();
    assert_eq!(states, ["shown", "seen", "done"]);
    assert_eq!(stage.committed(kind::RECEIPT)[0]["picture"], json!("ring"));
    assert_eq!(stage.screen(), "live");
    assert!(stage.core.word(stage.now, Word::Done).is_err());
}

#[test]
fn an_answer_within_three_seconds_has_been_seen_too() {
    let mut stage = Stage::new().called().live(Word::CallOnly);
    stage.shown();
    stage.say(Word::Refuse);
    let states: Vec<&str> =
        stage.committed(kind::RECEIPT).iter().map(|r| r["state"].as_str().expect("state")).collect();
    assert_eq!(states, ["shown", "seen", "refused"]);
}

#[test]
fn of_several_instructions_the_newest_comes_first_and_none_is_lost() {
    let mut stage = Stage::new().called().live(Word::CallOnly);
    let first = stage.shown();
    let second = stage.shown();
    let on_screen = |s: &Stage| match s.core.view(s.now).screen {
        Screen::Instruction(shown) => Some((shown.id, shown.place)),
        _ => None,
    };
    assert_eq!(on_screen(&stage), Some((second, (2, 2))));
    stage.say(Word::Done);
    assert_eq!(on_screen(&stage), Some((first, (1, 2))));
    stage.say(Word::Done);
    assert_eq!(stage.screen(), "live");
}

#[test]
fn the_red_frame_lives_as_long_as_the_pen_moves() {
    let mut stage = Stage::new().called().live(Word::CallOnly);
    let pointer = |message| Event::Pointer { from: pseudonym(2), message };
    stage.event(pointer(PointerMessage::Drawing));
    assert_eq!(stage.screen(), "drawing");
    stage.now += 1_001;
    assert_eq!(stage.screen(), "live");
    stage.event(pointer(PointerMessage::Pointer { at: PictureCoord { x: 1, y: 2 }, track: None }));
    assert_eq!(stage.screen(), "pointing");
    stage.event(pointer(PointerMessage::Off));
    assert_eq!(stage.screen(), "live");
}

#[test]
fn the_picture_somebody_draws_on_is_decoded_ahead_once() {
    let mut stage = Stage::new().called().live(Word::CallOnly);
    let annotation: lotse_payload::Annotation = serde_json::from_value(json!({
        "colour": "yellow", "width": 400, "shape": "arrow", "tail": { "x": 1, "y": 2 }, "tip": { "x": 3, "y": 4 },
    }))
    .expect("a mark");
    let frame = |rtp| FrameId { track: TrackId(Uuid::from_u128(7)), rtp };
    let marking = |rtp, annotation: Option<&lotse_payload::Annotation>| Event::Pointer {
        from: pseudonym(2),
        message: PointerMessage::Marking {
            sheet: 1,
            frame: frame(rtp),
            mark: annotation.map(|a| MovingMark { id: "a".into(), version: 1, annotation: Some(a.clone()) }),
        },
    };
    let ahead = |actions: Vec<Action>| -> Vec<Action> {
        actions.into_iter().filter(|a| matches!(a, Action::DecodeAhead(_))).collect()
    };
    assert_eq!(ahead(stage.event(marking(9_000, Some(&annotation)))), [Action::DecodeAhead(frame(9_000))]);
    assert_eq!(ahead(stage.event(marking(9_000, Some(&annotation)))), [], "known");
    assert_eq!(ahead(stage.event(marking(6_000, Some(&annotation)))), [], "stepping through earlier ones");
    stage.now += 200;
    assert_eq!(ahead(stage.event(marking(6_000, None))), [], "put away");
    assert_eq!(ahead(stage.event(marking(6_000, Some(&annotation)))), [Action::DecodeAhead(frame(6_000))]);
    assert_eq!(stage.screen(), "live", "marks on their way are not the wearer's");
}

#[test]
fn the_end_asks_once_and_keep_talking_has_the_focus() {
    let mut stage = Stage::new().called().live(Word::CallOnly);
    stage.say(Word::EndCall);
    assert_eq!(stage.screen(), "end-confirm");
    let focus = stage.core.view(stage.now).commands.into_iter().find(|c| c.focus).expect("one");
    assert_eq!(focus.label, "KEEP TALKING");
    stage.say(Word::Cancel);
    assert_eq!(stage.screen(), "live");
    stage.say(Word::EndCall);
    stage.say(Word::Confirm);
    assert_eq!(stage.screen(), "ended");
    assert!(!stage.sending());
    assert!(stage.done.contains(&Action::LeaveMedia));
    assert_eq!(stage.done.iter().rev().find(|a| matches!(a, Action::Remember(_))), Some(&Action::Remember(None)));
    stage.say(Word::Call);
    assert_eq!(stage.screen(), "calling");
}

#[test]
fn one_button_reaches_every_offer() {
    let mut stage = Stage::new().called();
    stage.expert_comes();
    assert!(stage.core.word(stage.now, Word::Hold).is_err(), "nothing is preselected");
    stage.say(Word::Tap);
    stage.say(Word::Tap);
    let focus = stage.core.view(stage.now).commands.into_iter().find(|c| c.focus).expect("one").word;
    assert_eq!(focus, Word::CallOnly);
    stage.say(Word::Hold);
    assert_eq!(stage.screen(), "live");
    assert_eq!(stage.committed(kind::CONSENT_CALL_ONLY).len(), 1);
}

#[test]
fn a_lost_link_is_shown_after_a_moment_and_the_same_session_goes_on() {
    let mut stage = Stage::new().called().live(Word::YesRecord);
    stage.recording();
    let session = stage.session();
    stage.event(Event::Disconnected);
    assert_eq!(stage.screen(), "live");
    stage.now += 2_000;
    assert_eq!(stage.screen(), "link-lost");
    assert_eq!(stage.core.view(stage.now).status.link, Link::Lost);
    stage.event(Event::Media(false));
    assert_eq!(stage.core.view(stage.now).status.recording, Recording::Off, "nothing arrives, so nothing is recorded");
    stage.now += 30_000;
    stage.done.clear();
    stage.event(Event::Connected);
    let left = serde_json::to_value(Left { who: stage.me, why: LeftWhy::Lost }).ok();
    stage.log(pseudonym(99), kind::SESSION_LEFT, session, left, Payload::None);
    stage.event(Event::CaughtUp);
    assert_eq!(stage.session(), session);
    assert!(
        stage
            .done
            .iter()
            .any(|a| matches!(a, Action::Commit { kind: kind::SESSION_CALLED, session: s, .. } if *s == session))
    );
    assert!(stage.done.iter().any(|a| matches!(a, Action::JoinMedia(_))));
    assert!(!stage.done.contains(&Action::Join), "the case key of this start is bound already");
    assert_eq!(stage.screen(), "live");
}

#[test]
fn media_that_did_not_come_before_the_link_was_lost_is_asked_for_again() {
    let mut stage = Stage::new().called().live(Word::YesRecord);
    let joins = |stage: &Stage| stage.done.iter().filter(|a| matches!(a, Action::JoinMedia(_))).count();
    let link_comes_again = |stage: &mut Stage| {
        stage.event(Event::Disconnected);
        stage.event(Event::Connected);
        stage.event(Event::CaughtUp);
        joins(stage)
    };
    assert_eq!(link_comes_again(&mut stage), 1, "media that flows goes on");
    stage.event(Event::Media(false));
    assert_eq!(joins(&stage), 2, "asked for at once, and the server never reads it");
    assert_eq!(link_comes_again(&mut stage), 3);
}

#[test]
fn the_case_keeps_how_the_link_was_while_an_expert_is_there() {
    let mut stage = Stage::new().called();
    let narrow = |stage: &mut Stage| {
        for _ in 0..30 {
            stage.now += 200;
            stage.event(Event::Carries { bps: Some(300e3), pictures: Pictures::Moving });
            stage.event(Event::Tick);
        }
    };
    narrow(&mut stage);
    assert_eq!(
        stage.core.view(stage.now).status.link,
        Link::Poor(LinkState::Poor, LinkTrouble::Slow),
        "the wearer sees it"
    );
    assert!(stage.committed(kind::LINK_STATE).is_empty(), "nobody else is there");
    let mut stage = stage.live(Word::YesRecord);
    narrow(&mut stage);
    stage.event(Event::Disconnected);
    stage.now += 1_600;
    stage.event(Event::Tick);
    let lost_ms = stage.now - 1_600;
    stage.event(Event::Connected);
    stage.event(Event::Tick);
    let filed: Vec<_> = stage.committed(kind::LINK_STATE);
    let states: Vec<_> = filed.iter().map(|s| s["state"].as_str().expect("state")).collect();
    assert_eq!(states, ["poor", "offline", "poor"]);
    assert_eq!(filed[1]["at_ms"], json!(lost_ms));
}

#[test]
fn after_a_restart_the_answer_stands_and_the_open_step_comes_back() {
    let old = Stage::new().called().live(Word::YesRecord);
    let session = old.session();
    let mut stage = Stage::with(true, true);
    assert!(!stage.event(Event::Connected).contains(&Action::OpenCase), "the remembered case is opened, not a new one");
    stage.event(Event::CaseOpened { case: stage.case, me: stage.me, fresh: false });
    stage.joined(stage.me, Role::Technician, "Mara");
    let earlier = Some(SessionId(Uuid::from_u128(5)));
    stage.log(stage.me, kind::SESSION_CALLED, earlier, None, Payload::None);
    stage.log(stage.me, kind::SESSION_ENDED, earlier, None, Payload::None);
    stage.log(stage.me, kind::SESSION_CALLED, session, None, Payload::None);
    stage.expert_comes();
    stage.log(stage.me, kind::CONSENT_RECORD, session, None, Payload::None);
    let open = stage.instruction();
    // A power cut now would lose it.
    assert!(!stage.done.contains(&Action::Remember(None)), "the end of an earlier call forgets this one");
    stage.done.clear();
    stage.event(Event::CaughtUp);
    assert_eq!(stage.session(), session);
    assert_eq!(stage.done[0], Action::Join);
    assert!(stage.done.contains(&Action::Prepare(open)));
    assert!(stage.sending());
}

#[test]
fn a_call_that_was_ended_while_the_glasses_were_off_is_forgotten() {
    let mut stage = Stage::with(false, true);
    stage.event(Event::Connected);
    stage.event(Event::CaseOpened { case: stage.case, me: stage.me, fresh: false });
    stage.joined(stage.me, Role::Technician, "Mara");
    let session = Some(SessionId(Uuid::from_u128(5)));
    stage.log(stage.me, kind::SESSION_CALLED, session, None, Payload::None);
    stage.log(stage.me, kind::SESSION_ENDED, session, None, Payload::None);
    stage.event(Event::CaughtUp);
    assert_eq!(stage.done.iter().rev().find(|a| matches!(a, Action::Remember(_))), Some(&Action::Remember(None)));
}

#[test]
fn a_missing_camera_is_said_and_the_call_goes_on() {
    let mut stage = Stage::new();
    stage.event(Event::Trouble(Device::Camera, Some("no such device".into())));
    stage = stage.called();
    assert_eq!(stage.screen(), "trouble");
    stage.expert_comes();
    assert_eq!(stage.screen(), "consent", "the question is never hidden");
    stage.say(Word::CallOnly);
    assert_eq!(stage.screen(), "trouble");
    assert!(stage.sending());
    stage.say(Word::Confirm);
    assert_eq!(stage.screen(), "live");
    assert!(matches!(stage.core.view(stage.now).screen, Screen::Live { devices, .. } if devices == [Device::Camera]));
}

#[derive(Debug, Clone)]
enum Step {
    Say(usize),
    ExpertComes,
    ExpertLeaves,
    Instruction,
    Presented,
    Pointer,
    Drop,
    Back,
    Ended,
    Later(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..Word::ALL.len()).prop_map(Step::Say),
        2 => Just(Step::ExpertComes),
        1 => Just(Step::ExpertLeaves),
        2 => Just(Step::Instruction),
        2 => Just(Step::Presented),
        1 => Just(Step::Pointer),
        1 => Just(Step::Drop),
        1 => Just(Step::Back),
        1 => Just(Step::Ended),
        2 => (1i64..5_000).prop_map(Step::Later),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens in whatever order: nothing leaves without an answer, every word is answered, receipts only rise.
    #[test]
    fn no_order_of_events_breaks_a_rule(steps in proptest::collection::vec(step(), 1..80)) {
        let mut stage = Stage::new().called();
        for step in steps {
            match step {
                Step::Say(i) => {
                    let word = Word::ALL[i];
                    let offered = stage.core.offered(stage.now).iter().any(|c| c.word == word);
                    let result = stage.core.word(stage.now, word);
                    if !matches!(word, Word::Tap | Word::Hold) {
                        prop_assert_eq!(result.is_ok(), offered, "{}", word.text());
                    }
                    for action in result.unwrap_or_default() {
                        stage.echo(&action);
                        stage.done.push(action);
                    }
                }
                Step::ExpertComes => stage.expert_comes(),
                Step::ExpertLeaves => {
                    let left = serde_json::to_value(Left { who: stage.expert, why: LeftWhy::Left }).ok();
                    stage.log(pseudonym(99), kind::SESSION_LEFT, stage.session(), left, Payload::None);
                }
                Step::Instruction => {
                    let id = stage.instruction();
                    stage.event(Event::PictureReady { instruction: id, origin: PictureOrigin::Snapshot });
                }
                Step::Presented => {
                    let instruction = match stage.core.view(stage.now).screen {
                        Screen::Instruction(s) => Some(s.id),
                        _ => None,
                    };
                    stage.event(Event::Presented { instruction });
                }
                Step::Pointer => {
                    stage.event(Event::Pointer { from: stage.expert, message: PointerMessage::Drawing });
                }
                Step::Drop => {
                    stage.event(Event::Disconnected);
                }
                Step::Back => {
                    stage.event(Event::Connected);
                    stage.event(Event::CaughtUp);
                }
                Step::Ended => {
                    stage.log(stage.expert, kind::SESSION_ENDED, stage.session(), None, Payload::None);
                }
                Step::Later(ms) => {
                    stage.now += ms;
                    stage.event(Event::Tick);
                }
            }
            let view = stage.core.view(stage.now);
            if stage.sending() {
                let answer = stage.core.answer();
                prop_assert!(matches!(answer, Some(Answer::Record | Answer::CallOnly)), "sending after {answer:?}");
                prop_assert!(stage.core.experts().next().is_some());
            }
            if let Recording::On { .. } = view.status.recording {
                prop_assert_eq!(stage.core.answer(), Some(Answer::Record));
            }
            prop_assert!(view.commands.iter().filter(|c| c.focus).count() <= 1);
            prop_assert!(view.commands.iter().filter(|c| c.on_hud).count() <= 5, "{:?}", view.commands);
        }
        let mut last: HashMap<String, Value> = HashMap::new();
        let rank = |s: &Value| ["shown", "seen", "done", "refused"].iter().position(|x| s == x);
        for receipt in stage.committed(kind::RECEIPT) {
            let id = receipt["instruction"].to_string();
            if let Some(before) = last.insert(id, receipt["state"].clone()) {
                prop_assert!(rank(&before) < rank(&receipt["state"]) && rank(&before) < Some(2));
            }
        }
    }
}
