"""TLS towards a peer (PS3.15 B.9): what we show and ask for, and what it means when it fails."""

from __future__ import annotations

import ssl

from mkisod.config.settings import TlsSettings
from mkisod.errors import Code, MkisodError, Permanent, Transient

# OpenSSL's x509_vfy.h: the certificate is good, and it is another host's.
_OTHER_HOST = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
# Reasons of OpenSSL for an answer that is no TLS.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"})


def make_tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or later (PS3.15 B.9); the other side has to show a certificate for its host. Raises `Permanent`."""
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key or None)
    except OSError as error:
        raise Permanent(Code.CONFIGURATION_INVALID, f"Certificate, key or CA cannot be used: {error.strerror or error}.") from error
    return context


def explain_tls_failure(peer: object, host: str, error: BaseException | None, *, in_handshake: bool) -> MkisodError:
    """What it means that a connection under TLS ended in the handshake, or behind it before anything was answered.

    Under TLS 1.3 a client is through before the server has looked at its certificate; what the server says of it may be lost.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_HOST:
            return Permanent(Code.TLS_FAILED, f"The certificate of {peer} is not for the host {host}.")
        return Permanent(Code.TLS_FAILED, f"The certificate of {peer} is not trusted: {error.verify_message}.")
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if "ALERT" in reason:  # the other side has said what it thinks of us
        return Permanent(Code.TLS_FAILED, f"{peer} refused TLS with us: {reason.partition('ALERT_')[2].replace('_', ' ').lower()}.")
    if in_handshake:
        if reason in _NOT_TLS:
            return Permanent(Code.TLS_FAILED, f"{peer} does not speak TLS on this port.")
        return Transient(Code.TLS_FAILED, f"{peer} ended the TLS handshake. It may not speak TLS on this port.")
    return Transient(Code.TLS_FAILED, f"{peer} ended the connection right after the TLS handshake. It may not accept our certificate.")
