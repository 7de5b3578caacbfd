//! Marks find their place again in any picture size.
#![allow(clippy::unwrap_used)]

use lotse_payload::{
    Instruction,
    geometry::{FULL, PictureCoord, length_to_pixels},
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_point_comes_back_from_pixels(x in any::<u16>(), y in any::<u16>(), w in 16u16..4_096, h in 16u16..4_096) {
        let (w, h) = (f32::from(w), f32::from(h));
        let coord = PictureCoord { x, y };
        let (px, py) = coord.to_pixels(w, h);
        prop_assert!((0.0..=w).contains(&px) && (0.0..=h).contains(&py));
        prop_assert_eq!(PictureCoord::from_pixels(px, py, w, h), coord);
    }

    #[test]
    fn a_pixel_comes_back_within_a_part_of_itself(px in 0.0f32..1920.0, py in 0.0f32..1080.0) {
        let (x, y) = PictureCoord::from_pixels(px, py, 1920.0, 1080.0).to_pixels(1920.0, 1080.0);
        prop_assert!((x - px).abs() < 0.02 && (y - py).abs() < 0.02);
    }

    #[test]
    fn points_outside_land_on_the_edge(px in -1e6f32..1e6, py in any::<f32>()) {
        let c = PictureCoord::from_pixels(px, py, 1280.0, 720.0);
        if px <= 0.0 { prop_assert_eq!(c.x, 0); }
        if px >= 1280.0 { prop_assert_eq!(c.x, FULL); }
        if py.is_nan() || py <= 0.0 { prop_assert_eq!(c.y, 0); }
        if py >= 720.0 { prop_assert_eq!(c.y, FULL); }
    }

    #[test]
    fn lengths_follow_the_height(length in any::<u16>(), h in 1.0f32..4_096.0) {
        let px = length_to_pixels(length, h);
        prop_assert!((0.0..=h * 1.000_001).contains(&px));
    }

    #[test]
    fn any_json_is_read_or_refused_without_a_panic(text in r#"[\{\}\[\]",:0-9a-z_.-]{0,200}"#) {
        if let Ok(instruction) = serde_json::from_str::<Instruction>(&text) {
            instruction.is_sane();
        }
    }
}
