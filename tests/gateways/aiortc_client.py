"""aiortc as a foreign client: `aiortc_client.py publish|watch ADDRESS TOKEN CLIP`.

Publishes the clip at five pictures a second, or says the number of each picture and the loudness of what it hears.
"""

import asyncio
import sys

import aioice.ice
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError

from barcode import delete, number, post, say, until_told

# By itself it leaves the loopback out, and these tests send nothing anywhere else.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class Thinned(MediaStreamTrack):
    """Every fifth picture: a busy machine encodes no more."""

    kind = "video"

    def __init__(self, source):
        super().__init__()
        self.source = source

    async def recv(self):
        for _ in range(4):
            await self.source.recv()
        return await self.source.recv()


async def see(track):
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return  # It has ended.
        if track.kind == "audio":
            samples = bytes(frame.planes[0])
            loud = max(abs(int.from_bytes(samples[i : i + 2], sys.byteorder, signed=True)) for i in range(0, len(samples), 64))
            say(voice=loud)
        else:
            grey = frame.reformat(format="gray")
            plane = grey.planes[0]
            say(width=frame.width, height=frame.height, picture=number(bytes(plane), plane.line_size))


async def main(verb, address, token, clip):
    pc = RTCPeerConnection()
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    until_told(lambda: loop.call_soon_threadsafe(told.set))
    pc.on("connectionstatechange", lambda: say(state=pc.connectionState))
    player = MediaPlayer(clip, loop=True) if verb == "publish" else None
    if player:
        pc.addTransceiver(Thinned(player.video), direction="sendonly")
        pc.addTransceiver(player.audio, direction="sendonly")
    else:
        pc.addTransceiver("video", direction="recvonly")
        pc.addTransceiver("audio", direction="recvonly")
        pc.on("track", lambda track: asyncio.ensure_future(see(track)))
    await pc.setLocalDescription(await pc.createOffer())
    answer, resource = await loop.run_in_executor(None, post, address, token, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await told.wait()
    await loop.run_in_executor(None, delete, resource, token)
    await pc.close()
    if player:
        # Its thread speaks to the loop that ends here.
        player.video.stop()
        player.audio.stop()


asyncio.run(main(*sys.argv[1:]))
