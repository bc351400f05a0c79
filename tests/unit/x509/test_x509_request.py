from __future__ import annotations

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.ca import make_csr, new_key
from workflows.errors import CertificateError
from workflows.x509.names import Subject, SubjectAltNames
from workflows.x509.request import (
    KeyKind,
    check_request,
    key_fault,
    key_kind,
    key_pem,
    make_key,
    make_request,
    read_private_key,
    read_request,
    spki_sha256,
)

SUBJECT = Subject(CN="cms.example.com", OU="Video", O="Example", L="Seoul", ST="Seoul", C="KR", emailAddress="o@e.com")
SANS = SubjectAltNames(dns=("cms.example.com",), ip=("192.0.2.1", "2001:db8::1"), email=("ops@example.com",))


@pytest.mark.parametrize("kind", list(KeyKind))
def test_made_key_is_of_the_kind_asked_for(kind):
    """What `make_key` makes, `key_kind` calls by the same name, and no rule refuses."""
    public = make_key(kind).public_key()
    assert (key_kind(public), key_fault(public)) == (kind.value, "")


def test_made_request_reads_back_as_wished():
    """Subject and all kinds of names survive, in order, and nothing is found against them."""
    key = make_key(KeyKind.EC_P256)
    request = read_request(make_request(key, SUBJECT, SANS))
    assert (request.subject, request.sans, request.signature_ok) == (SUBJECT, SANS, True)
    assert request.spki_sha256 == spki_sha256(key)
    assert check_request(request, SUBJECT, SANS).faults == ()


@pytest.mark.parametrize("form", ["pem", "der", "crlf", "bom", "text"])
def test_request_is_read_in_every_form(form):
    """The same request, however it came."""
    pem = make_csr("cms.example.com", [x509.DNSName("cms.example.com")])
    der = x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER)
    data = {
        "pem": pem,
        "der": der,
        "crlf": pem.replace(b"\n", b"\r\n"),
        "bom": b"\xef\xbb\xbf" + pem,
        "text": b"Certificate Request:\n  Data:\n" + pem + b"\n\n",
    }[form]
    assert read_request(data).pem == pem


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_unreadable_request_is_a_certificate_error(data):
    """Library errors are translated, and the file is named."""
    with pytest.raises(CertificateError) as caught:
        read_request(data, where="callbridge.csr")
    assert [finding.where for finding in caught.value.findings] == ["callbridge.csr"]


def test_two_requests_in_a_file_are_refused():
    """Nobody could say which one was meant."""
    with pytest.raises(CertificateError, match="2 requests"):
        read_request(make_csr("a.example.com") + make_csr("b.example.com"))


def test_request_that_is_not_as_wished_shows_every_difference():
    """All findings at once: subject, missing and extra names."""
    wished = Subject(CN="cms.example.com", O="Example")
    request = read_request(
        make_csr("other.example.com", [x509.DNSName("other.example.com"), x509.DNSName("evil.example.net")])
    )
    found = [(fault.where, fault.what) for fault in check_request(request, wished, SANS).faults]
    assert found == [
        ("CN", "CN is 'other.example.com'; wished for is 'cms.example.com'"),
        ("O", "O is 'absent'; wished for is 'Example'"),
        (
            "subject_alt_names",
            "the request does not ask for cms.example.com, 192.0.2.1, 2001:db8::1, ops@example.com",
        ),
        (
            "subject_alt_names",
            "the request asks for evil.example.net, other.example.com, which nobody wished for",
        ),
    ]


def test_cn_among_the_names_is_no_extra_name():
    """A server may add the CN to the list by itself."""
    request = read_request(make_csr("a.example.com", [x509.DNSName("a.example.com")]))
    assert check_request(request, Subject(CN="a.example.com"), SubjectAltNames()).faults == ()


def test_request_with_a_broken_signature_is_a_fault():
    """Whoever sent it does not hold the key."""
    der = bytearray(x509.load_pem_x509_csr(make_csr("a.example.com")).public_bytes(serialization.Encoding.DER))
    position = bytes(der).index(b"a.example.com")
    der[position] = ord("b")
    faults = check_request(read_request(bytes(der)), Subject(CN="b.example.com"), SubjectAltNames()).faults
    assert [fault.where for fault in faults] == ["signature"]


def test_short_rsa_key_is_a_fault():
    """1024 bits are broken; what is allowed by rule may still be under the fleet's own minimum."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    request = read_request(make_csr("a.example.com", key=weak))
    faults = check_request(request, Subject(CN="a.example.com"), SubjectAltNames()).faults
    assert [fault.what for fault in faults] == ["the RSA key has 1024 bits; fewer than 2048 are broken"]
    fair = read_request(make_csr("a.example.com", key=make_key(KeyKind.RSA_2048)))
    faults = check_request(fair, Subject(CN="a.example.com"), SubjectAltNames(), minimum_rsa_bits=3072).faults
    assert [fault.what for fault in faults] == ["the key is rsa-2048; at least 3072 bits are asked for"]


def test_curve_and_kind_that_servers_do_not_take_are_faults():
    """TLS clients take the three NIST curves; CMS takes RSA and EC."""
    odd = [ec.generate_private_key(ec.SECP256K1()), ed25519.Ed25519PrivateKey.generate()]
    assert [key_fault(key.public_key()) != "" for key in odd] == [True, True]


@pytest.mark.parametrize("kind", [KeyKind.RSA_2048, KeyKind.EC_P384])
def test_private_key_reads_back(kind):
    """PEM as we write it, and PKCS#8 DER as others do."""
    key = make_key(kind)
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert [spki_sha256(read_private_key(data)) for data in (key_pem(key), der)] == [spki_sha256(key)] * 2


@pytest.mark.parametrize(
    ("password", "sentence"),
    [(None, "the private key is encrypted"), (b"wrong", "does not open with this password")],
)
def test_encrypted_key_says_so_without_saying_more(password, sentence):
    """The error is clear, and carries neither the key nor the password nor the library's error."""
    pem = new_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"correct"),
    )
    with pytest.raises(CertificateError, match=sentence) as caught:
        read_private_key(pem, password)
    assert (caught.value.__cause__, caught.value.__context__, "wrong" in str(caught.value)) == (None, None, False)
    assert isinstance(read_private_key(pem, b"correct"), ec.EllipticCurvePrivateKey)


def test_password_for_a_key_without_one_is_told():
    """Not called encrypted when it is not."""
    with pytest.raises(CertificateError, match="is not encrypted"):
        read_private_key(key_pem(new_key()), b"something")


def test_key_of_another_kind_is_refused():
    """Servers take RSA and EC."""
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(CertificateError, match="neither RSA nor EC"):
        read_private_key(pem)


def test_name_that_no_request_can_hold_is_a_certificate_error():
    """`check_names` would have said so before; the builder's error is still translated."""
    with pytest.raises(CertificateError, match="cannot be put into a request"):
        make_request(new_key(), Subject(CN="a.example.com", C="KOREA"), SubjectAltNames())


@pytest.mark.needs_openssl
def test_openssl_likes_our_request(tmp_path):
    """An independent reader verifies the signature and finds the names."""
    path = tmp_path / "ours.csr"
    path.write_bytes(make_request(make_key(KeyKind.RSA_2048), SUBJECT, SANS))
    done = subprocess.run(
        ["openssl", "req", "-verify", "-noout", "-text", "-in", str(path)], capture_output=True, text=True, check=True
    )
    assert "verify OK" in done.stdout + done.stderr
    assert "DNS:cms.example.com, IP Address:192.0.2.1" in done.stdout


@pytest.mark.needs_openssl
def test_request_and_key_from_openssl_are_read(tmp_path):
    """Row S2, the second way: key (with its EC PARAMETERS before it) and CSR made by OpenSSL."""
    key, csr = tmp_path / "their.key", tmp_path / "their.csr"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-out", str(key)], check=True)
    subject = "/C=KR/O=Example/CN=cms.example.com"
    names = "subjectAltName=DNS:cms.example.com,IP:192.0.2.1"
    command = ["openssl", "req", "-new", "-key", str(key), "-subj", subject, "-addext", names, "-out", str(csr)]
    subprocess.run(command, check=True, capture_output=True)
    request = read_request(csr.read_bytes())
    assert request.subject == Subject(C="KR", O="Example", CN="cms.example.com")
    assert request.sans == SubjectAltNames(dns=("cms.example.com",), ip=("192.0.2.1",))
    assert request.spki_sha256 == spki_sha256(read_private_key(key.read_bytes()))
