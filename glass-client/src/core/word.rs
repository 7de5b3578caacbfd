//! The words a technician can say, press or send.

/// One word. The same list for voice, buttons, cards and the wear page (docs/PROTOCOL.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Word {
    Call,
    YesRecord,
    CallOnly,
    RefuseCall,
    StopRecording,
    Done,
    Refuse,
    Repeat,
    Next,
    Back,
    EndCall,
    Confirm,
    Cancel,
    Privacy,
    /// The button, short: the focus moves on.
    Tap,
    /// The button, long: choose.
    Hold,
}

impl Word {
    pub const ALL: [Word; 16] = [
        Word::Call,
        Word::YesRecord,
        Word::CallOnly,
        Word::RefuseCall,
        Word::StopRecording,
        Word::Done,
        Word::Refuse,
        Word::Repeat,
        Word::Next,
        Word::Back,
        Word::EndCall,
        Word::Confirm,
        Word::Cancel,
        Word::Privacy,
        Word::Tap,
        Word::Hold,
    ];

    /// As on the socket.
    pub fn text(self) -> &'static str {
        match self {
            Word::Call => "CALL",
            Word::YesRecord => "YES_RECORD",
            Word::CallOnly => "CALL_ONLY",
            Word::RefuseCall => "REFUSE_CALL",
            Word::StopRecording => "STOP_RECORDING",
            Word::Done => "DONE",
            Word::Refuse => "REFUSE",
            Word::Repeat => "REPEAT",
            Word::Next => "NEXT",
            Word::Back => "BACK",
            Word::EndCall => "END_CALL",
            Word::Confirm => "CONFIRM",
            Word::Cancel => "CANCEL",
            Word::Privacy => "PRIVACY",
            Word::Tap => "TAP",
            Word::Hold => "HOLD",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|w| w.text() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for word in Word::ALL {
            assert_eq!(Word::parse(word.text()), Some(word));
            assert_eq!(serde_json::to_value(word).expect("json"), word.text());
        }
        assert_eq!(Word::parse("DANCE"), None);
    }
}
