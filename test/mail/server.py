"""A mail server for tests: server.py PORT FOLDER

Takes mail on 127.0.0.1 and writes each one that it accepts, as a reader would see it,
as a line of JSON to FOLDER/accepted, before it says so.  What the recipient's name
begins with decides: "refused" is refused for good, "later" for now.  While there is a
file FOLDER/slow, the answer to a message comes half a minute late.
"""

import asyncio
import email
import email.policy
import json
import os
import sys

from aiosmtpd.controller import Controller

port, folder = int(sys.argv[1]), sys.argv[2]


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith('refused'):
            return f'550 5.1.1 <{address}>: nobody has this name'
        if address.startswith('later'):
            return f'450 4.2.0 <{address}>: come back later'
        envelope.rcpt_tos.append(address)
        return '250 OK'

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        mail = {'sender': envelope.mail_from, 'recipients': envelope.rcpt_tos,
                'body': message.get_content(), 'defects': [str(d) for d in message.defects],
                'longest': max(len(line) for line in envelope.content.split(b'\r\n')),
                'ascii': envelope.content.isascii()}
        mail.update((name.lower(), str(value)) for name, value in message.items())
        with open(os.path.join(folder, 'accepted'), 'a') as file:
            file.write(json.dumps(mail) + '\n')
            file.flush()
        if os.path.exists(os.path.join(folder, 'slow')):
            await asyncio.sleep(30)
        return '250 OK'


controller = Controller(Handler(), hostname='127.0.0.1', port=port, data_size_limit=4 * 1024 * 1024)
controller.start()
print('ready', flush=True)
sys.stdin.read()
controller.stop()
