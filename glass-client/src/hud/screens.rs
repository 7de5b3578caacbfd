//! The screens below the status line, one function each.

use super::{
    Colour, HEIGHT, INSET_HEIGHT, INSET_WIDTH, PICTURE_HEIGHT, PICTURE_WIDTH, RED, SAFE_BOTTOM, SAFE_X, SOFT, Scene,
    TEAL, WHITE, WIDTH, YELLOW,
    canvas::{Canvas, Ink, Style},
    icons::{self, Icon},
    span,
};
use crate::{
    config::Language,
    core::{
        Device,
        notice::Notice,
        view::{Command, Screen, Shown, Summary},
    },
};
use lotse_payload::{Mark, ReceiptState, geometry::PictureCoord, receipt::PictureOrigin};

const TOP: f32 = 74.0;
const MAIN_WIDTH: f32 = 498.0;
const COMMANDS_WIDTH: f32 = 290.0;
const COMMAND_HEIGHT: f32 = 56.0;
const COMMAND_HIGH: f32 = 68.0;
const COMMAND_GAP: f32 = 12.0;

pub fn draw(canvas: &mut Canvas, scene: &Scene) {
    let l = scene.view.language;
    match &scene.view.screen {
        Screen::Starting => starting(canvas, l),
        Screen::NotPaired { why } => not_paired(canvas, l, why),
        Screen::Home => home(canvas, l),
        Screen::Calling { since_ms, connected } => calling(canvas, scene, *since_ms, *connected),
        Screen::Consent { notice, more } => consent(canvas, l, notice, *more),
        Screen::NoMedia { watchers } => no_media(canvas, l, watchers),
        Screen::Live { devices, media } => live(canvas, l, devices, *media),
        Screen::Drawing { who } => drawing(canvas, l, who),
        Screen::Pointing { who, at } => pointing(canvas, scene, who, *at),
        Screen::Instruction(shown) => instruction(canvas, scene, shown),
        Screen::EndConfirm { recording_since_ms, done, open, in_call } => {
            end_confirm(canvas, scene, *recording_since_ms, (*done, *open), *in_call);
        }
        Screen::Ended(summary) => ended(canvas, l, summary),
        Screen::Trouble { device, why } => trouble(canvas, l, *device, why),
        Screen::LinkLost { since_ms, in_call } => link_lost(canvas, scene, *since_ms, *in_call),
    }
    let high = commands(canvas, &scene.view.commands);
    if let Some(toast) = &scene.view.toast {
        message(canvas, toast, high);
    }
}

fn h2(size: f32) -> Style {
    Style::new(size, Ink::Bold, WHITE).line((size * 1.18).round())
}
fn body() -> Style {
    Style::new(22.0, Ink::Medium, SOFT).line(30.0)
}
fn strong() -> Style {
    Style::new(22.0, Ink::SemiBold, WHITE).line(27.0)
}
fn small() -> Style {
    Style::new(20.0, Ink::Medium, SOFT).line(27.0)
}

/// A sign and a word in colour. Returns the y below.
fn eyebrow(canvas: &mut Canvas, icon: Icon, text: &str, colour: Colour) -> f32 {
    icons::draw(canvas, icon, SAFE_X, TOP + 1.0, 26.0, colour);
    canvas.text(SAFE_X + 37.0, TOP, text, Style::new(22.0, Ink::SemiBold, colour).line(28.0));
    TOP + 40.0
}

/// The button's help, at the bottom left.
fn knob(canvas: &mut Canvas, l: Language) {
    let y = HEIGHT as f32 - SAFE_BOTTOM - 28.0;
    icons::draw(canvas, Icon::Button, SAFE_X, y + 3.0, 22.0, SOFT);
    let text = l.t("Knopf: kurz weiter, lang wählen", "Button: tap for next, hold to choose");
    canvas.text(SAFE_X + 31.0, y, text, Style::new(20.0, Ink::Medium, SOFT).line(28.0));
}

/// The numbered commands at the bottom right. Returns their top edge.
fn commands(canvas: &mut Canvas, list: &[Command]) -> f32 {
    let shown: Vec<&Command> = list.iter().filter(|c| c.on_hud).collect();
    let label = Style::new(22.0, Ink::Bold, WHITE).line(25.0);
    let room = COMMANDS_WIDTH - 57.0 - 10.0;
    let heights: Vec<f32> = shown
        .iter()
        .map(|c| if canvas.measure(c.label, label) > room { COMMAND_HIGH } else { COMMAND_HEIGHT })
        .collect();
    let total: f32 = heights.iter().sum::<f32>() + COMMAND_GAP * shown.len().saturating_sub(1) as f32;
    let top = HEIGHT as f32 - SAFE_BOTTOM - total;
    let x = WIDTH as f32 - SAFE_X - COMMANDS_WIDTH;
    let mut y = top;
    for (i, (command, height)) in shown.iter().zip(&heights).enumerate() {
        let middle = y + height / 2.0;
        canvas.fill_rounded(x, y, COMMANDS_WIDTH, *height, 14.0, super::BLACK);
        if command.focus {
            canvas.outline((x, y, COMMANDS_WIDTH, *height), 14.0, 3.0, TEAL, 255);
            canvas.disc(x + 29.0, middle, 17.0, TEAL, 255);
        } else {
            canvas.outline((x, y, COMMANDS_WIDTH, *height), 14.0, 2.0, WHITE, 102);
            canvas.circle(x + 29.0, middle, 16.0, 2.0, TEAL);
        }
        let number = (i + 1).to_string();
        let style = Style::new(20.0, Ink::Bold, if command.focus { super::BLACK } else { TEAL }).line(24.0);
        let width = canvas.measure(&number, style);
        canvas.text(x + 29.0 - width / 2.0, middle - 12.0, &number, style);
        let text_height = canvas.measure_height(command.label, label, room);
        canvas.paragraph(x + 58.0, middle - text_height / 2.0, room, command.label, label);
        y += height + COMMAND_GAP;
    }
    top
}

/// A chat message at the bottom left.
fn message(canvas: &mut Canvas, text: &str, commands_top: f32) {
    let style = Style::new(22.0, Ink::SemiBold, WHITE).line(28.0);
    let free = commands_top > HEIGHT as f32 - 60.0;
    let width = if free { WIDTH as f32 - 2.0 * SAFE_X - 40.0 } else { MAIN_WIDTH - 50.0 };
    // Two lines; more is in the case.
    let mut words = text.to_owned();
    while canvas.measure_height(&words, style, width) > 56.0 {
        words = words.chars().take(words.chars().count().saturating_sub(8)).collect::<String>() + "…";
    }
    let height = canvas.measure_height(&words, style, width);
    let y = HEIGHT as f32 - SAFE_BOTTOM - height - 12.0;
    canvas.fill_rounded(SAFE_X - 8.0, y - 8.0, width + 56.0, height + 18.0, 12.0, super::BLACK);
    icons::draw(canvas, Icon::Message, SAFE_X, y + 2.0, 24.0, TEAL);
    canvas.paragraph(SAFE_X + 36.0, y, width, &words, style);
}

fn starting(canvas: &mut Canvas, l: Language) {
    canvas.text(SAFE_X, TOP, l.t("Verbindet mit dem Server", "Connecting to the server"), h2(34.0));
    canvas.paragraph(
        SAFE_X,
        TOP + 56.0,
        MAIN_WIDTH,
        l.t("Das dauert meist wenige Sekunden.", "This takes a few seconds, as a rule."),
        body(),
    );
}

fn not_paired(canvas: &mut Canvas, l: Language, why: &str) {
    let y = eyebrow(canvas, Icon::Warning, l.t("Nicht angemeldet", "Not signed in"), RED);
    let title = l.t("Die Brille gehört noch zu niemandem", "These glasses belong to nobody yet");
    let y = y + canvas.paragraph(SAFE_X, y, 780.0, title, h2(30.0)) + 18.0;
    let remedy =
        l.t("Fragen Sie die Verwaltung nach einem Kopplungscode.", "Ask your administrator for a pairing code.");
    let y = y + canvas.paragraph(SAFE_X, y, 780.0, remedy, Style::new(24.0, Ink::SemiBold, WHITE)) + 12.0;
    let why = format!("{}: {why}", l.t("Meldung", "Message"));
    canvas.paragraph(SAFE_X, y, 780.0, &why, small());
}

fn home(canvas: &mut Canvas, l: Language) {
    canvas.text(SAFE_X, TOP, l.t("Was brauchen Sie?", "What do you need?"), h2(34.0));
    let text = l.t(
        "Rufen Sie einen Experten. Er sieht und hört nichts, bevor Sie zugestimmt haben.",
        "Call an expert. They see and hear nothing before you have agreed.",
    );
    canvas.paragraph(SAFE_X, TOP + 56.0, MAIN_WIDTH, text, body());
    knob(canvas, l);
}

fn calling(canvas: &mut Canvas, scene: &Scene, since_ms: Option<i64>, connected: bool) {
    let l = scene.view.language;
    let y = eyebrow(canvas, Icon::Phone, l.t("Ruft einen Experten", "Calling an expert"), TEAL);
    let waited = since_ms.map_or_else(|| "00:00".into(), |s| span(scene.now_ms - s));
    let big = Style::new(84.0, Ink::Bold, WHITE).line(92.0);
    let width = canvas.text(SAFE_X, y + 4.0, &waited, big);
    canvas.text(SAFE_X + width + 24.0, y + 18.0, l.t("Sie sind", "You are"), h2(30.0));
    canvas.text(SAFE_X + width + 24.0, y + 52.0, l.t("in der Reihe", "in line"), h2(30.0));
    let text = if connected {
        l.t(
            "Die Hände sind frei. Sobald jemand da ist, steht hier, wer zusieht.",
            "Your hands are free. As soon as somebody is there you read here who watches.",
        )
    } else {
        l.t(
            "Kein Netz. Der Anruf geht weiter, sobald es da ist.",
            "No network. The call goes on as soon as it is back.",
        )
    };
    let y = y + 120.0;
    let used = canvas.paragraph(SAFE_X, y, MAIN_WIDTH, text, body());
    let remark =
        l.t("Aufgenommen wird nur, wenn Sie JA AUFNEHMEN sagen.", "Nothing is recorded unless you say YES RECORD.");
    canvas.paragraph(SAFE_X, y + used + 10.0, MAIN_WIDTH, remark, body());
    knob(canvas, l);
}

fn consent(canvas: &mut Canvas, l: Language, notice: &Notice, more: bool) {
    canvas.text(SAFE_X, TOP, Notice::heading(l), h2(30.0));
    if more {
        let mut y = TOP + 46.0;
        for line in notice.more(l) {
            y += canvas.paragraph(SAFE_X, y, MAIN_WIDTH - 10.0, line, Style::new(20.0, Ink::Medium, WHITE).line(27.0))
                + 10.0;
        }
    } else {
        let mut y = TOP + 44.0;
        let rows = notice.rows(l);
        let column = rows.iter().map(|r| canvas.measure(r.0, small())).fold(0.0, f32::max) + 16.0;
        for (about, what, remark) in rows {
            canvas.text(SAFE_X, y, about, small());
            let what = canvas.fit(&what, strong(), MAIN_WIDTH - column);
            canvas.text(SAFE_X + column, y, &what, strong());
            y += 27.0;
            if !remark.is_empty() {
                canvas.text(SAFE_X + column, y, remark, small());
                y += 27.0;
            }
            y += 6.0;
        }
    }
    let x = WIDTH as f32 - SAFE_X - COMMANDS_WIDTH;
    canvas.paragraph(x, TOP, COMMANDS_WIDTH, Notice::remark(l), body().line(29.0));
    if !more {
        knob(canvas, l);
    }
}

fn no_media(canvas: &mut Canvas, l: Language, watchers: &[String]) {
    let y = eyebrow(canvas, Icon::EyeOff, l.t("Kein Bild, kein Ton", "No picture, no voice"), YELLOW);
    let title = l.t("Sie haben NEIN DANKE gesagt", "You said NO THANK YOU");
    let y = y + canvas.paragraph(SAFE_X, y, MAIN_WIDTH, title, h2(30.0)) + 16.0;
    let who = watchers.first().map_or(l.t("Der Experte", "The expert"), String::as_str);
    let text = match l {
        Language::De => format!("{who} sieht und hört nichts. Der Fall bleibt offen, und der Anruf auch."),
        Language::En => format!("{who} sees and hears nothing. The case stays open, and so does the call."),
    };
    canvas.paragraph(SAFE_X, y, MAIN_WIDTH, &text, body());
    knob(canvas, l);
}

/// Free for the hands: only what is missing is said, at the bottom.
fn live(canvas: &mut Canvas, l: Language, devices: &[Device], media: bool) {
    let y = HEIGHT as f32 - SAFE_BOTTOM - 28.0;
    let mut x = SAFE_X;
    let style = |colour| Style::new(20.0, Ink::SemiBold, colour).line(28.0);
    if !media {
        icons::draw(canvas, Icon::NoNetwork, x, y + 2.0, 24.0, YELLOW);
        x +=
            33.0 + canvas.text(
                x + 33.0,
                y,
                l.t("Bild und Ton verbinden sich …", "Picture and voice are connecting …"),
                style(YELLOW),
            ) + 26.0;
    }
    for device in devices {
        let (icon, text) = match device {
            Device::Camera => (Icon::CameraOff, l.t("Kein Bild", "No picture")),
            Device::Microphone => (Icon::MicOff, l.t("Kein Mikrofon", "No microphone")),
            Device::Speaker => (Icon::SoundOff, l.t("Kein Lautsprecher", "No speaker")),
        };
        icons::draw(canvas, icon, x, y + 2.0, 24.0, YELLOW);
        x += 33.0 + canvas.text(x + 33.0, y, text, style(YELLOW)) + 26.0;
    }
}

fn drawing(canvas: &mut Canvas, l: Language, who: &str) {
    let (x, y, w) = (SAFE_X, 64.0, WIDTH as f32 - 2.0 * SAFE_X);
    let bottom = HEIGHT as f32 - 30.0;
    canvas.outline((x, y, w, bottom - y), 16.0, 3.0, RED, 255);
    let text = match l {
        Language::De => format!("{who} zeichnet"),
        Language::En => format!("{who} is drawing"),
    };
    let style = Style::new(22.0, Ink::SemiBold, RED).line(30.0);
    let text = canvas.fit(&text, style, 600.0);
    let width = canvas.measure(&text, style) + 33.0;
    let left = (WIDTH as f32 - width) / 2.0;
    canvas.fill_rect(left - 16.0, bottom - 8.0, width + 32.0, 12.0, super::BLACK);
    icons::draw(canvas, Icon::Pen, left, bottom - 13.0, 23.0, RED);
    canvas.text(left + 33.0, bottom - 17.0, &text, style);
}

/// The camera's picture at the bottom right, with the dot on it.
fn pointing(canvas: &mut Canvas, scene: &Scene, who: &str, at: PictureCoord) {
    let (w, h) = (INSET_WIDTH as f32, INSET_HEIGHT as f32);
    let (x, y) = (WIDTH as f32 - SAFE_X - w, HEIGHT as f32 - SAFE_BOTTOM - h);
    if let Some(camera) = &scene.camera {
        canvas.picture(camera, x, y, w, h, 12.0);
    }
    canvas.outline((x, y, w, h), 12.0, 2.0, WHITE, 255);
    let (dx, dy) = at.to_pixels(w, h);
    let (dx, dy) = (x + dx.clamp(10.0, w - 10.0), y + dy.clamp(10.0, h - 10.0));
    canvas.disc(dx, dy, 10.0, super::BLACK, 165);
    canvas.disc(dx, dy, 7.0, RED, 255);
    let text = match scene.view.language {
        Language::De => format!("{who} zeigt"),
        Language::En => format!("{who} is pointing"),
    };
    let style = Style::new(22.0, Ink::SemiBold, RED).line(28.0);
    let text = canvas.fit(&text, style, x - SAFE_X - 40.0);
    canvas.text(SAFE_X, HEIGHT as f32 - SAFE_BOTTOM - 28.0, &text, style);
}

fn instruction(canvas: &mut Canvas, scene: &Scene, shown: &Shown) {
    let l = scene.view.language;
    let (w, h) = (PICTURE_WIDTH as f32, PICTURE_HEIGHT as f32);
    let y = 68.0;
    if let Some(marked) = scene.marked.as_ref().filter(|m| m.instruction == shown.id) {
        canvas.picture(&marked.picture, SAFE_X, y, w, h, 12.0);
    }
    canvas.outline((SAFE_X, y, w, h), 12.0, 2.0, WHITE, 255);
    let bottom = HEIGHT as f32 - SAFE_BOTTOM;
    let title = Style::new(30.0, Ink::Bold, WHITE).line(34.0);
    let words = if shown.instruction.text.trim().is_empty() {
        l.t("Siehe Markierung", "See the mark").to_owned()
    } else {
        shown.instruction.text.trim().to_owned()
    };
    // One large line, or two smaller ones; longer texts end in "…" and stay readable in the case.
    if canvas.measure(&words, title) <= w {
        canvas.text(SAFE_X, y + h + 12.0, &words, title);
    } else {
        let style = Style::new(24.0, Ink::Bold, WHITE).line(29.0);
        let mut words = words;
        while canvas.measure_height(&words, style, w) > 58.0 {
            words =
                words.chars().take(words.chars().count().saturating_sub(6)).collect::<String>().trim_end().to_owned()
                    + "…";
        }
        canvas.paragraph(SAFE_X, y + h + 8.0, w, &words, style);
    }
    let origin = match shown.picture {
        Some(PictureOrigin::Snapshot) => {
            l.t("Bild vom Experten: so sah er es", "Picture from the expert: as they saw it")
        }
        Some(PictureOrigin::None) => l.t("Das Bild dazu fehlt", "The picture for it is missing"),
        _ => "",
    };
    if !origin.is_empty() {
        icons::draw(canvas, Icon::Warning, SAFE_X, bottom - 26.0, 22.0, YELLOW);
        canvas.text(SAFE_X + 31.0, bottom - 28.0, origin, Style::new(20.0, Ink::Medium, YELLOW).line(28.0));
    } else if scene.view.toast.is_none() {
        knob(canvas, l);
    }
    let x = WIDTH as f32 - SAFE_X - COMMANDS_WIDTH;
    let number = step_number(shown).to_string();
    canvas.disc(x + 19.0, 89.0, 19.0, YELLOW, 255);
    let style = Style::new(24.0, Ink::Bold, super::BLACK).line(28.0);
    let width = canvas.measure(&number, style);
    canvas.text(x + 19.0 - width / 2.0, 75.0, &number, style);
    let (at, of) = shown.place;
    let place = match l {
        Language::De => format!("Schritt {at} von {of}"),
        Language::En => format!("Step {at} of {of}"),
    };
    canvas.text(x + 51.0, 73.0, &place, Style::new(26.0, Ink::Bold, WHITE).line(32.0));
    let from = match l {
        Language::De => format!("von {}", shown.from),
        Language::En => format!("from {}", shown.from),
    };
    let from = canvas.fit(&from, body(), COMMANDS_WIDTH);
    canvas.text(x, 112.0, &from, body());
    let receipt = match shown.state {
        None => "",
        Some(ReceiptState::Shown) => l.t("Quittung: gezeigt", "Receipt: shown"),
        Some(ReceiptState::Seen) => l.t("Quittung: gesehen", "Receipt: seen"),
        Some(ReceiptState::Done) => l.t("Quittung: erledigt", "Receipt: done"),
        Some(ReceiptState::Refused) => l.t("Quittung: abgelehnt", "Receipt: refused"),
    };
    if !receipt.is_empty() {
        // Four commands begin at 193 where one of them takes two lines.
        icons::draw(canvas, Icon::Check, x, 144.0, 24.0, TEAL);
        canvas.text(x + 33.0, 141.0, receipt, Style::new(22.0, Ink::SemiBold, TEAL).line(30.0));
    }
}

/// The number the expert drew, or which instruction this is.
fn step_number(shown: &Shown) -> u16 {
    let drawn = shown.instruction.marks.iter().find_map(|m| match m.mark {
        Mark::Step { n, .. } => Some(n),
        _ => None,
    });
    drawn.unwrap_or(shown.place.0 as u16)
}

fn rows(canvas: &mut Canvas, y: f32, rows: &[(&str, String, Colour)]) -> f32 {
    let label = |colour| Style::new(20.0, Ink::Medium, colour).line(27.0);
    let column = rows.iter().map(|r| canvas.measure(r.0, label(SOFT))).fold(0.0, f32::max) + 18.0;
    let mut y = y;
    for (about, what, colour) in rows {
        canvas.text(SAFE_X, y, about, label(if *colour == WHITE { SOFT } else { *colour }));
        canvas.text(SAFE_X + column, y, what, Style { colour: *colour, ..strong() });
        y += 41.0;
    }
    y
}

fn end_confirm(canvas: &mut Canvas, scene: &Scene, since: Option<i64>, (done, open): (usize, usize), in_call: bool) {
    let l = scene.view.language;
    let title =
        if in_call { l.t("Gespräch beenden?", "End the call?") } else { l.t("Anruf abbrechen?", "Cancel the call?") };
    canvas.text(SAFE_X, TOP, title, h2(34.0));
    let recorded = match (since, l) {
        (Some(s), Language::De) => format!("{}, liegt im Fall", span(scene.now_ms - s)),
        (Some(s), Language::En) => format!("{}, in the case", span(scene.now_ms - s)),
        (None, _) => l.t("keine", "none").into(),
    };
    let mut list =
        vec![(l.t("Aufnahme", "Recording"), recorded, WHITE), (l.t("Schritte", "Steps"), steps(l, done), WHITE)];
    if open > 0 {
        let text = match l {
            Language::De => format!("{open} nicht erledigt"),
            Language::En => format!("{open} not done"),
        };
        list.push((l.t("Offen", "Open"), text, YELLOW));
    }
    let y = rows(canvas, TOP + 62.0, &list);
    canvas.text(SAFE_X, y + 12.0, l.t("Der Fall bleibt offen.", "The case stays open."), body());
    knob(canvas, l);
}

fn steps(l: Language, done: usize) -> String {
    match l {
        Language::De => format!("{done} erledigt"),
        Language::En => format!("{done} done"),
    }
}

fn ended(canvas: &mut Canvas, l: Language, summary: &Summary) {
    let y = eyebrow(canvas, Icon::Check, l.t("Gespräch beendet", "Call ended"), TEAL);
    let title = match (&summary.by, l) {
        (Some(who), Language::De) => format!("{who} hat beendet"),
        (Some(who), Language::En) => format!("Ended by {who}"),
        (None, _) => l.t("Alles liegt im Fall", "All of it is in the case").into(),
    };
    let title = canvas.fit(&title, h2(30.0), 780.0);
    canvas.text(SAFE_X, y, &title, h2(30.0));
    let mut list = vec![(l.t("Schritte", "Steps"), steps(l, summary.done), WHITE)];
    let missing = summary.refused + summary.open;
    if missing > 0 {
        let text = match l {
            Language::De => format!("{missing} nicht erledigt"),
            Language::En => format!("{missing} not done"),
        };
        list.push((l.t("Offen", "Open"), text, YELLOW));
    }
    let y = rows(canvas, y + 54.0, &list);
    let text = l.t("Kein Bild und kein Ton verlassen die Brille.", "No picture and no voice leave the glasses.");
    canvas.text(SAFE_X, y + 10.0, text, body());
    knob(canvas, l);
}

fn trouble(canvas: &mut Canvas, l: Language, device: Device, why: &str) {
    let (icon, name, title, remedy, rest) = match device {
        Device::Camera => (
            Icon::CameraOff,
            l.t("Kamera fehlt", "Camera missing"),
            l.t("Die Brille findet ihre Kamera nicht", "The glasses cannot find their camera"),
            l.t("Kabel der Kamera fest eindrücken.", "Push in the camera's cable."),
            l.t(
                "Dann 5 Sekunden warten. Sprechen geht auch ohne Kamera, Video nicht.",
                "Then wait 5 seconds. Talking works without a camera, video does not.",
            ),
        ),
        Device::Microphone => (
            Icon::MicOff,
            l.t("Mikrofon fehlt", "Microphone missing"),
            l.t("Niemand kann Sie hören", "Nobody can hear you"),
            l.t("Headset fest einstecken.", "Plug the headset in firmly."),
            l.t("Bild und Anweisungen gehen auch ohne Mikrofon.", "Picture and instructions work without it."),
        ),
        Device::Speaker => (
            Icon::SoundOff,
            l.t("Lautsprecher fehlt", "Speaker missing"),
            l.t("Sie können niemanden hören", "You cannot hear anybody"),
            l.t("Headset fest einstecken.", "Plug the headset in firmly."),
            l.t("Bild und Anweisungen gehen auch ohne Ton.", "Picture and instructions work without sound."),
        ),
    };
    let y = eyebrow(canvas, icon, name, RED);
    let y = y + canvas.paragraph(SAFE_X, y, MAIN_WIDTH, title, h2(30.0)) + 18.0;
    let y =
        y + canvas.paragraph(SAFE_X, y, MAIN_WIDTH, remedy, Style::new(24.0, Ink::SemiBold, WHITE).line(31.0)) + 6.0;
    let y = y + canvas.paragraph(SAFE_X, y, MAIN_WIDTH, rest, body()) + 10.0;
    let mut why = format!("{}: {why}", l.t("Meldung", "Message"));
    while canvas.measure_height(&why, small(), MAIN_WIDTH) > 54.0 {
        why = why.chars().take(why.chars().count().saturating_sub(8)).collect::<String>() + "…";
    }
    canvas.paragraph(SAFE_X, y, MAIN_WIDTH, &why, small());
    knob(canvas, l);
}

fn link_lost(canvas: &mut Canvas, scene: &Scene, since_ms: i64, in_call: bool) {
    let l = scene.view.language;
    let y = eyebrow(canvas, Icon::NoNetwork, l.t("Kein Netz", "No network"), RED);
    let since = span(scene.now_ms - since_ms);
    let title = match l {
        Language::De => format!("Verbindet neu, seit {since}"),
        Language::En => format!("Reconnecting, for {since}"),
    };
    canvas.text(SAFE_X, y, &title, h2(30.0));
    let text = if in_call {
        l.t(
            "Ihr Gespräch wartet. Es geht mit demselben Fall weiter, sobald das Netz da ist. Sie müssen nichts tun.",
            "Your call waits. It goes on in the same case as soon as the network is back. There is nothing to do.",
        )
    } else {
        l.t("Es geht weiter, sobald das Netz da ist.", "It goes on as soon as the network is back.")
    };
    canvas.paragraph(SAFE_X, y + 54.0, 700.0, text, body());
}
