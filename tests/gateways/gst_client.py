"""GStreamer's webrtcbin as a foreign client: `gst_client.py publish|watch ADDRESS TOKEN CLIP [vp8|h264]`.

Publishes the clip at five pictures a second, or says the number of each picture and the loudness of what it hears. It offers one
picture codec, VP8 unless told otherwise.
"""

import subprocess
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC

from barcode import delete, number, post, say, until_told

PUBLISH = """
    webrtcbin name=rtc bundle-policy=max-bundle
    fdsrc fd={fd} ! decodebin name=clip
    clip. ! queue ! videorate ! video/x-raw,framerate=5/1 ! videoconvert ! clocksync
        ! {encoder} ! {caps} ! rtc.
    clip. ! queue ! audioconvert ! audioresample ! clocksync ! opusenc ! rtpopuspay pt=111
        ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! rtc.
"""
RTP = "application/x-rtp,media=video,payload=96,clock-rate=90000,encoding-name="
# What makes packets, what they are, what makes pictures of them.
CODECS = {
    "vp8": (
        "vp8enc deadline=1 cpu-used=8 target-bitrate=1500000 keyframe-max-dist=50 ! rtpvp8pay pt=96 picture-id-mode=15-bit",
        RTP + "VP8",
        "rtpvp8depay ! vp8dec",
    ),
    "h264": (
        "x264enc tune=zerolatency speed-preset=ultrafast bitrate=1500 key-int-max=50 ! video/x-h264,profile=constrained-baseline"
        " ! rtph264pay pt=96 config-interval=-1 aggregate-mode=zero-latency",
        RTP + "H264,packetization-mode=(string)1,profile-level-id=(string)42c01f",
        "rtph264depay ! avdec_h264",
    ),
}
AUDIO = "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2"


def on_picture(sink):
    sample = sink.emit("pull-sample")
    caps = sample.get_caps().get_structure(0)
    buffer = sample.get_buffer()
    grey = buffer.extract_dup(0, buffer.get_size())
    width, height = caps.get_int("width")[1], caps.get_int("height")[1]
    say(width=width, height=height, picture=number(grey, (width + 3) // 4 * 4))
    return Gst.FlowReturn.OK


def on_sound(sink):
    buffer = sink.emit("pull-sample").get_buffer()
    samples = buffer.extract_dup(0, buffer.get_size())
    loud = (abs(int.from_bytes(samples[i : i + 2], sys.byteorder, signed=True)) for i in range(0, len(samples) - 1, 64))
    say(voice=max(loud, default=0))
    return Gst.FlowReturn.OK


def on_pad(rtc, pad, pipeline, decoder):
    """A track of the server's: decoded and looked at."""
    if pad.get_direction() != Gst.PadDirection.SRC:
        return
    video = pad.get_current_caps().get_structure(0).get_string("media") == "video"
    to_grey = decoder + " ! videoconvert ! video/x-raw,format=GRAY8"
    to_sound = "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE,channels=1"
    bin = Gst.parse_bin_from_description(f"queue ! {to_grey if video else to_sound} ! appsink name=end sync=false", True)
    end = bin.get_by_name("end")
    end.set_property("emit-signals", True)
    end.connect("new-sample", on_picture if video else on_sound)
    pipeline.add(bin)
    bin.sync_state_with_parent()
    pad.link(bin.get_static_pad("sink"))


def main(verb, address, token, clip, codec="vp8"):
    Gst.init(None)
    encoder, caps, decoder = CODECS[codec]
    loop = GLib.MainLoop()
    pipeline = Gst.Pipeline.new()
    if verb == "publish":
        # Round and round without an end, so that its times only grow.
        again = ["ffmpeg", "-v", "quiet", "-stream_loop", "-1", "-i", clip, "-c", "copy", "-f", "matroska", "pipe:1"]
        source = subprocess.Popen(again, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        pipeline = Gst.parse_launch(PUBLISH.format(fd=source.stdout.fileno(), encoder=encoder, caps=caps))
    else:
        pipeline.add(Gst.parse_launch("webrtcbin name=rtc bundle-policy=max-bundle"))
    rtc = pipeline.get_by_name("rtc")
    # By itself it leaves the loopback out, and these tests send nothing anywhere else. The agent lives as long as this name:
    # webrtcbin 1.22 leaves its only reference to whoever asks.
    agent = rtc.get_property("ice-agent")
    agent.emit("add-local-ip-address", "127.0.0.1")
    made = {}

    def on_offered(promise, _):
        # Parts of the reply live no longer than it does.
        made["reply"] = (promise, promise.get_reply())
        made["offer"] = made["reply"][1].get_value("offer")
        GLib.idle_add(offered)

    def offered():
        rtc.emit("set-local-description", made["offer"], Gst.Promise.new_with_change_func(lambda *_: GLib.idle_add(exchange), None))

    def exchange():
        text, made["resource"] = post(address, token, rtc.get_property("local-description").sdp.as_text())
        _, sdp = GstSdp.SDPMessage.new_from_text(text)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        rtc.emit("set-remote-description", answer, Gst.Promise.new())

    def offer(*_):
        if "asked" not in made:
            made["asked"] = True
            rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(on_offered, None))

    def on_message(_, message):
        if message.type == Gst.MessageType.ERROR:
            say(failed=str(message.parse_error()))
            loop.quit()

    rtc.connect("notify::connection-state", lambda *_: say(state=rtc.get_property("connection-state").value_nick))
    rtc.connect("on-negotiation-needed", offer)
    if verb == "watch":
        rtc.connect("pad-added", on_pad, pipeline, decoder)
        for line in (caps, AUDIO):
            rtc.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, Gst.Caps.from_string(line))
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", on_message)
    until_told(lambda: GLib.idle_add(loop.quit))
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    if "resource" in made:
        delete(made["resource"], token)
    pipeline.set_state(Gst.State.NULL)


main(*sys.argv[1:])
