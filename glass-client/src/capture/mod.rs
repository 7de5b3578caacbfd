//! Camera and microphone, as frames and blocks with the monotonic time of capture.
