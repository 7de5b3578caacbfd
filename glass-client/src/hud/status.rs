//! The line on top, always at its place: case, REC, link, who watches.

use lotse_payload::{LinkState, LinkTrouble};

use super::{
    Colour, RED, SAFE_TOP, SAFE_X, Scene, WHITE, WIDTH, YELLOW,
    canvas::{Canvas, Ink, Style},
    icons::{self, Icon},
    span,
};
use crate::{
    config::Language,
    core::view::{Link, Recording},
};

const HEIGHT: f32 = 28.0;
/// Between a sign and its word.
const GAP: f32 = 7.0;

#[derive(Clone, Copy)]
enum Sign {
    None,
    /// Full or empty dot.
    Dot(bool),
    Bars(usize),
    Icon(Icon),
}

struct Part {
    sign: Sign,
    text: String,
    colour: Colour,
    ink: Ink,
}

impl Sign {
    fn width(self) -> f32 {
        match self {
            Sign::None => 0.0,
            Sign::Dot(_) => 13.0 + GAP,
            Sign::Bars(_) => 25.0 + GAP,
            Sign::Icon(_) => 23.0 + GAP,
        }
    }
}

pub fn draw(canvas: &mut Canvas, scene: &Scene) {
    let style = |p: &Part| Style::new(20.0, p.ink, p.colour).line(HEIGHT);
    let room = WIDTH as f32 - 2.0 * SAFE_X;
    let mut parts = parts(scene);
    // Names give way first, then they are counted.
    for short in [false, true] {
        if short {
            shorten(&mut parts, scene);
        }
        let wide: f32 = parts.iter().map(|p| p.sign.width() + canvas.measure(&p.text, style(p))).sum();
        if wide + 20.0 * (parts.len() - 1) as f32 <= room {
            break;
        }
    }
    let widths: Vec<f32> = parts.iter().map(|p| p.sign.width() + canvas.measure(&p.text, style(p))).collect();
    let gap = (room - widths.iter().sum::<f32>()) / (parts.len() - 1).max(1) as f32;
    let mut x = SAFE_X;
    for (part, width) in parts.iter().zip(widths) {
        let middle = SAFE_TOP + HEIGHT / 2.0;
        match part.sign {
            Sign::None => {}
            Sign::Dot(true) => canvas.disc(x + 6.5, middle, 6.5, part.colour, 255),
            Sign::Dot(false) => canvas.circle(x + 6.5, middle, 5.3, 2.5, part.colour),
            Sign::Bars(n) => icons::bars(canvas, x, middle - 11.0, n, part.colour),
            Sign::Icon(icon) => icons::draw(canvas, icon, x, middle - 11.5, 23.0, part.colour),
        }
        canvas.text(x + part.sign.width(), SAFE_TOP, &part.text, style(part));
        x += width + gap;
    }
}

fn parts(scene: &Scene) -> Vec<Part> {
    let l = scene.view.language;
    let s = &scene.view.status;
    let part = |sign, text: String, colour| Part { sign, text, colour, ink: Ink::SemiBold };
    let case = match &s.case {
        Some(number) => format!("{} {number}", l.t("Fall", "Case")),
        None => l.t("Kein Fall", "No case").into(),
    };
    let recording = match s.recording {
        Recording::On { since_ms } => {
            Part { ink: Ink::Bold, ..part(Sign::Dot(true), format!("REC {}", span(scene.now_ms - since_ms)), RED) }
        }
        Recording::Starting => part(Sign::Dot(false), l.t("Aufnahme beginnt", "Recording starts").into(), RED),
        Recording::Paused => part(Sign::Dot(false), l.t("Aufnahme pausiert", "Recording paused").into(), YELLOW),
        Recording::Off => part(Sign::Dot(false), l.t("Keine Aufnahme", "No recording").into(), WHITE),
    };
    let link = match s.link {
        Link::Good => part(Sign::Bars(4), l.t("Netz gut", "Link good").into(), WHITE),
        Link::Poor(LinkState::StillMode, _) => part(Sign::Bars(1), l.t("Standbilder", "Stills").into(), YELLOW),
        Link::Poor(LinkState::AudioOnly, _) => part(Sign::Bars(1), l.t("Nur Ton", "Voice only").into(), YELLOW),
        Link::Poor(_, why) => part(Sign::Bars(1), l.link_trouble(why).into(), YELLOW),
        Link::Connecting => part(Sign::Bars(0), l.t("Verbindet …", "Connecting …").into(), WHITE),
        Link::Lost => part(Sign::Icon(Icon::NoNetwork), l.t("Kein Netz", "No network").into(), RED),
    };
    let mut list = vec![part(Sign::None, case, WHITE), recording, link];
    if s.private {
        list.push(part(Sign::Icon(Icon::CameraOff), l.t("Verdeckt", "Covered").into(), YELLOW));
    }
    list.push(match s.watchers.as_slice() {
        [] => part(Sign::Icon(Icon::EyeOff), l.t("Niemand sieht zu", "Nobody watching").into(), WHITE),
        [one] => part(Sign::Icon(Icon::Eye), l.watching(one, 1), WHITE),
        [a, b] => part(Sign::Icon(Icon::Eye), l.watching(&format!("{}, {}", last(a), last(b)), 2), WHITE),
        many => part(Sign::Icon(Icon::Eye), l.watching(&many.len().to_string(), many.len()), WHITE),
    });
    list
}

fn shorten(parts: &mut [Part], scene: &Scene) {
    let l = scene.view.language;
    let watchers = &scene.view.status.watchers;
    if let Some(part) = parts.last_mut().filter(|_| !watchers.is_empty()) {
        part.text = l.watching(&watchers.len().to_string(), watchers.len());
    }
}

fn last(name: &str) -> &str {
    name.rsplit(' ').next().unwrap_or(name)
}

impl Language {
    fn link_trouble(self, why: LinkTrouble) -> &'static str {
        match why {
            LinkTrouble::Slow => self.t("Netz langsam", "Link slow"),
            LinkTrouble::Late => self.t("Netz verzögert", "Link delayed"),
            LinkTrouble::Lossy => self.t("Netz lückenhaft", "Link patchy"),
            LinkTrouble::Silent => self.t("Kein Netz", "No network"),
        }
    }

    fn watching(self, who: &str, how_many: usize) -> String {
        match self {
            Language::De if how_many == 1 => format!("{who} sieht zu"),
            Language::De => format!("{who} sehen zu"),
            Language::En => format!("{who} watching"),
        }
    }
}
