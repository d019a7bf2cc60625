"""A service on asyncio: holds a number, and answers a question at the next tick of its clock only."""
import asyncio
import sys

number = "0"
tick = asyncio.Condition()


async def clock():
    while True:
        await asyncio.sleep(0.02)
        async with tick:
            tick.notify_all()


async def answer(reader, writer):
    global number
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split()[1].decode()
    async with tick:
        await tick.wait()
    if path.startswith("/put/"):
        number = path.removeprefix("/put/")
    body = number if path in ("/get", f"/put/{number}") else "healthy"
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    await writer.drain()
    writer.close()


async def main(host, port):
    server = await asyncio.start_server(answer, host, int(port))
    await asyncio.gather(clock(), server.serve_forever())


asyncio.run(main(*sys.argv[1].rsplit(":", 1)))
