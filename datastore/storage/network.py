"""What HTTP clients raise when there is no answer at all, in our words."""

from __future__ import annotations

import asyncio
import socket
import ssl

import aiohttp

from datastore.storage.reasons import CUT, TIMEOUT, TLS, UNREACHABLE, Trouble


def explain_network(error: BaseException) -> Trouble | None:
    """Understands a failed connection.

    Returns:
        None where the error is about something else.
    """
    said = str(error) or type(error).__name__
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return Trouble(TLS, said)
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return Trouble(TIMEOUT, said if str(error) else "")
    if isinstance(error, (aiohttp.ClientConnectorError, socket.gaierror, ConnectionRefusedError)):
        return Trouble(UNREACHABLE, said)
    if isinstance(error, (aiohttp.ClientError, ssl.SSLError, ConnectionError, EOFError)):
        return Trouble(CUT, said)
    return None
