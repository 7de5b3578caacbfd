//! Every screen in both languages as pictures: `lotse-glass hud-gallery FOLDER`, to be looked at.

use std::{path::Path, sync::Arc};

use lotse_payload::{
    Annotation, Instruction, LinkState, LinkTrouble, Mark, ReceiptState,
    annotation::{Colour, FrameConfidence, StrokePoint},
    geometry::PictureCoord,
    receipt::PictureOrigin,
};
use lotse_protocol::id::{EventId, FrameId, Pseudonym, TrackId};
use uuid::Uuid;

use super::{Marked, PICTURE_HEIGHT, PICTURE_WIDTH, Scene, canvas::Canvas, display, draw};
use crate::{
    capture::yuv::Rgba,
    config::Language,
    core::{
        Device, Word,
        notice::Notice,
        view::{Command, Link, Recording, Screen, Shown, Status, Summary, View},
    },
    error::GlassError,
    overlay::marks,
};

/// Name, status, screen, commands, message, marked picture.
type Row<'a> = (&'static str, Status, Screen, Vec<Command>, Option<&'a str>, Option<Marked>);

const NOW: i64 = 1_763_700_000_000;

/// Writes all pictures; returns how many.
pub fn write(dir: &Path, background: Option<&Rgba>) -> Result<usize, GlassError> {
    std::fs::create_dir_all(dir).map_err(|e| GlassError::file(dir, e))?;
    let mut canvas = Canvas::default();
    let mut count = 0;
    for language in [Language::De, Language::En] {
        for (i, (name, scene)) in scenes(language, background).into_iter().enumerate() {
            let drawn = draw(&mut canvas, &scene);
            let path = dir.join(format!("{}-{:02}-{name}.png", language.code(), i + 1));
            display::save(&drawn.pixels, &path)?;
            count += 1;
        }
    }
    Ok(count)
}

/// One of each screen, with words of real length.
pub fn scenes(l: Language, background: Option<&Rgba>) -> Vec<(&'static str, Scene)> {
    let who = Pseudonym(Uuid::nil());
    let recording = Recording::On { since_ms: NOW - 767_000 };
    let watchers = vec!["Anton Weber".to_owned()];
    let idle = Status {
        case: Some("2026-0007".into()),
        recording: Recording::Off,
        link: Link::Good,
        watchers: vec![],
        private: false,
    };
    let live = Status { recording, watchers: watchers.clone(), ..idle.clone() };
    let notice =
        Notice { watchers: vec![(who, "Anton Weber".into())], archivist: Some((who, "Archiv Hydroserv Linz".into())) };
    let nobody = Notice { archivist: None, ..notice.clone() };
    let c = |word, label, focus| Command { word, label, focus, on_hud: true };
    let answers = |archivist: bool, more: bool| {
        let mut list = vec![
            c(Word::CallOnly, l.t("OHNE AUFNAHME ANRUFEN", "CALL WITHOUT RECORDING"), false),
            c(Word::RefuseCall, l.t("NEIN DANKE", "NO THANK YOU"), false),
        ];
        if archivist {
            list.insert(0, c(Word::YesRecord, l.t("JA AUFNEHMEN", "YES RECORD"), false));
        }
        list.push(if more {
            c(Word::Back, l.t("ZURÜCK GEHEN", "GO BACK"), false)
        } else {
            c(Word::Next, l.t("MEHR ZEIGEN", "SHOW MORE"), false)
        });
        list
    };
    let call = || vec![c(Word::Call, l.t("EXPERTEN RUFEN", "CALL EXPERT"), true)];
    let cancel = || vec![c(Word::Cancel, l.t("ANRUF ABBRECHEN", "CANCEL CALL"), true)];
    let steps = |more: bool| {
        let mut list = vec![
            c(Word::Done, l.t("ERLEDIGT", "STEP DONE"), true),
            c(Word::Repeat, l.t("WIEDERHOLEN", "REPEAT"), false),
            c(Word::Refuse, l.t("ABLEHNEN", "REFUSE"), false),
        ];
        if more {
            list.push(c(Word::Next, l.t("NÄCHSTER SCHRITT", "NEXT STEP"), false));
        }
        list
    };
    let keep = || {
        vec![
            c(Word::Cancel, l.t("WEITER SPRECHEN", "KEEP TALKING"), true),
            c(Word::Confirm, l.t("GESPRÄCH BEENDEN", "END CALL"), false),
        ]
    };
    let search =
        |without| vec![c(Word::Repeat, l.t("NOCHMAL SUCHEN", "SEARCH AGAIN"), true), c(Word::Confirm, without, false)];
    let step = instruction(l);
    let shown = |picture, state, place, text: &str| {
        let mut instruction = step.clone();
        if !text.is_empty() {
            instruction.text = text.to_owned();
        }
        Screen::Instruction(Box::new(Shown {
            id: EventId(Uuid::nil()),
            from: "Anton Weber".into(),
            at_ms: NOW,
            instruction,
            place,
            picture: Some(picture),
            state,
        }))
    };
    let long = l.t(
        "Die vier Schrauben über Kreuz lösen, zuerst die obere linke, dann gegenüber, nie ganz herausdrehen",
        "Loosen the four screws crosswise, upper left first, then the opposite one, never all the way out",
    );
    let with_picture = |picture: Option<&Rgba>| Marked {
        instruction: EventId(Uuid::nil()),
        picture: Arc::new(marks::draw(picture, &step, PICTURE_WIDTH, PICTURE_HEIGHT)),
    };
    let marked = with_picture(background);
    let camera = background.cloned().map(Arc::new);
    let summary = |by: Option<&str>, refused| Summary { by: by.map(str::to_owned), done: 3, refused, open: 0 };
    let list: Vec<Row<'_>> = vec![
        (
            "starting",
            Status { case: None, link: Link::Connecting, ..idle.clone() },
            Screen::Starting,
            vec![],
            None,
            None,
        ),
        (
            "not-paired",
            Status { case: None, ..idle.clone() },
            Screen::NotPaired {
                why: "the server refused: This pairing code is unknown or used. (bad_pairing_code, 7f3a)".into(),
            },
            vec![],
            None,
            None,
        ),
        ("home", Status { case: None, ..idle.clone() }, Screen::Home, call(), None, None),
        (
            "calling",
            idle.clone(),
            Screen::Calling { since_ms: Some(NOW - 74_000), connected: true },
            cancel(),
            None,
            None,
        ),
        (
            "consent",
            idle.clone(),
            Screen::Consent { notice: notice.clone(), more: false },
            answers(true, false),
            None,
            None,
        ),
        (
            "consent-no-archivist",
            idle.clone(),
            Screen::Consent { notice: nobody, more: false },
            answers(false, false),
            None,
            None,
        ),
        ("consent-more", idle.clone(), Screen::Consent { notice, more: true }, answers(true, true), None, None),
        (
            "no-media",
            idle.clone(),
            Screen::NoMedia { watchers: watchers.clone() },
            vec![
                c(Word::CallOnly, l.t("OHNE AUFNAHME ANRUFEN", "CALL WITHOUT RECORDING"), true),
                c(Word::EndCall, l.t("GESPRÄCH BEENDEN", "END CALL"), false),
            ],
            None,
            None,
        ),
        ("live", live.clone(), Screen::Live { devices: vec![], media: true }, vec![], None, None),
        (
            "live-two",
            Status { watchers: vec!["Anton Weber".into(), "Katharina Schmid".into()], ..live.clone() },
            Screen::Live { devices: vec![], media: true },
            vec![],
            Some(l.t(
                "Anton Weber: Bitte die Dichtung von links zeigen, dann sehe ich den O-Ring.",
                "Anton Weber: Please show me the seal from the left, so that I see the O-ring.",
            )),
            None,
        ),
        (
            "live-trouble",
            Status {
                private: true,
                recording: Recording::Paused,
                link: Link::Poor(LinkState::StillMode, LinkTrouble::Slow),
                ..live.clone()
            },
            Screen::Live { devices: vec![Device::Camera, Device::Speaker], media: false },
            vec![],
            None,
            None,
        ),
        ("drawing", live.clone(), Screen::Drawing { who: "Anton Weber".into() }, vec![], None, None),
        (
            "pointing",
            live.clone(),
            Screen::Pointing { who: "Anton Weber".into(), at: PictureCoord { x: 30_000, y: 36_000 } },
            vec![],
            None,
            None,
        ),
        (
            "instruction",
            live.clone(),
            shown(PictureOrigin::Ring, Some(ReceiptState::Seen), (1, 3), ""),
            steps(true),
            None,
            Some(marked.clone()),
        ),
        (
            "instruction-long",
            live.clone(),
            shown(PictureOrigin::Snapshot, Some(ReceiptState::Shown), (2, 2), long),
            steps(false),
            None,
            Some(marked),
        ),
        (
            "instruction-no-picture",
            live.clone(),
            shown(PictureOrigin::None, None, (1, 1), ""),
            steps(false),
            None,
            Some(with_picture(None)),
        ),
        (
            "end-confirm",
            live.clone(),
            Screen::EndConfirm { recording_since_ms: Some(NOW - 1_840_000), done: 2, open: 1, in_call: true },
            keep(),
            None,
            None,
        ),
        ("ended", idle.clone(), Screen::Ended(summary(Some("Anton Weber"), 1)), call(), None, None),
        (
            "trouble-camera",
            idle.clone(),
            Screen::Trouble { device: Device::Camera, why: "camera v4l2:/dev/video0: there is no such device.".into() },
            search(l.t("OHNE BILD WEITER", "GO ON BY VOICE")),
            None,
            None,
        ),
        (
            "trouble-microphone",
            idle.clone(),
            Screen::Trouble { device: Device::Microphone, why: "sound microphone: it does not start.".into() },
            search(l.t("TROTZDEM WEITER", "GO ON ANYWAY")),
            None,
            None,
        ),
        (
            "trouble-speaker",
            idle,
            Screen::Trouble { device: Device::Speaker, why: "sound speaker: it does not start.".into() },
            search(l.t("TROTZDEM WEITER", "GO ON ANYWAY")),
            None,
            None,
        ),
        (
            "link-lost",
            Status { recording: Recording::Off, watchers: vec![], link: Link::Lost, ..live },
            Screen::LinkLost { since_ms: NOW - 12_000, in_call: true },
            vec![],
            None,
            None,
        ),
    ];
    list.into_iter()
        .map(|(name, status, screen, commands, toast, marked)| {
            let view = View { language: l, status, screen, commands, toast: toast.map(str::to_owned) };
            (name, Scene { view, now_ms: NOW, marked, camera: camera.clone() })
        })
        .collect()
}

fn instruction(l: Language) -> Instruction {
    let at = |x: f32, y: f32| PictureCoord::from_pixels(x, y, 1280.0, 720.0);
    let mark = |mark| Annotation { mark, colour: Colour::Yellow, width: 900 };
    let bow = (0..30).map(|i| {
        let t = i as f32 / 29.0;
        StrokePoint { at: at(760.0 + 190.0 * t, 470.0 + 90.0 * (t * 3.0).sin()), p: 128 }
    });
    Instruction {
        frame: FrameId { track: TrackId(Uuid::nil()), rtp: 0 },
        confidence: FrameConfidence::Exact,
        width: 1280,
        height: 720,
        at_ms: NOW,
        text: l.t("Schraube zuerst lösen", "Loosen this screw first").into(),
        marks: vec![
            mark(Mark::Ellipse { a: at(500.0, 230.0), b: at(760.0, 490.0) }),
            mark(Mark::Step { at: at(520.0, 250.0), n: 1 }),
            mark(Mark::Stroke { points: bow.collect() }),
            mark(Mark::Arrow { tail: at(1_050.0, 600.0), tip: at(780.0, 450.0) }),
            mark(Mark::Text { at: at(900.0, 580.0), text: l.t("Schlüssel 24", "Wrench 24").into() }),
        ],
        replaces: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing but black outside the safe area, on any screen.
    #[test]
    fn every_screen_keeps_the_safe_area_free() {
        let mut canvas = Canvas::default();
        for l in [Language::De, Language::En] {
            for (name, scene) in scenes(l, None) {
                let drawn = draw(&mut canvas, &scene).pixels;
                for (i, p) in drawn.pixels.chunks(4).enumerate() {
                    let (x, y) = (i as u32 % drawn.width, i as u32 / drawn.width);
                    let inside = (24..830).contains(&x) && (18..466).contains(&y);
                    assert!(inside || p[..3] == [0, 0, 0], "{} {name}: {x},{y}", l.code());
                }
            }
        }
    }

    #[test]
    fn every_screen_says_if_it_is_recorded_and_who_watches() {
        let mut canvas = Canvas::default();
        for l in [Language::De, Language::En] {
            for (name, scene) in scenes(l, None) {
                let texts = draw(&mut canvas, &scene).texts.join("|");
                assert!(texts.contains("REC ") || texts.contains(l.t("Aufnahme", "ecording")), "{name}: {texts}");
                assert!(texts.contains(l.t("zu", "watching")), "{name}: {texts}");
            }
        }
    }
}
