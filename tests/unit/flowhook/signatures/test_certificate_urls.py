"""Certificates are fetched from where their publishers have them, and from nowhere else."""

from __future__ import annotations

import orjson
from support.cases import cases

from flowhook.document.models.auth import parse_auth
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.types import KeyedVerifier, RequestView

TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders"
CERTIFICATE = "SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"


def wanted(auth, headers=(), body=b""):
    (verifier,) = build_verifiers(parse_auth(auth), {})
    assert isinstance(verifier, KeyedVerifier)
    found = verifier.key_request(RequestView("POST", "https://h/hook/f", "/hook/f", "", headers, body))
    return None if found is None else found.url


@cases(
    ("url", "is_one"),
    [
        ("https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270", True),
        ("https://api.sandbox.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77", True),
        ("https://api-m.paypal.com/v1/notifications/certs/CERT-1", True),
        ("https://www.paypal.com/v1/notifications/certs/CERT-1", False),
        ("https://a.b.paypal.com/v1/notifications/certs/CERT-1", False),
        ("https://api.paypal.com/v1/notifications/certs/../certs/CERT-1", False),
        ("https://api.paypal.com/v1/notifications/certs/CERT-1/x", False),
        ("https://api.paypal.com/invoice/p/CERT-1", False),
        ("https://apixpaypal.com/v1/notifications/certs/CERT-1", False),
        ("https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1", False),
        ("https://api.paypal.com/v1/notifications/certs/CERT-" + "1" * 101, False),
        ("http://api.paypal.com/v1/notifications/certs/CERT-1", False),
    ],
)
def test_those_of_paypal_are_where_its_api_is(url, is_one):
    found = wanted({"paypal": {"webhook_id": "WH1"}}, [("paypal-cert-url", url.encode())])
    assert found == (url if is_one else None)


@cases(
    ("url", "topic", "is_one"),
    [
        (f"https://sns.eu-central-1.amazonaws.com/{CERTIFICATE}", TOPIC, True),
        (f"https://sns.cn-north-1.amazonaws.com.cn/{CERTIFICATE}", "arn:aws-cn:sns:cn-north-1:123456789012:o", True),
        (f"https://sns.amazonaws.com/{CERTIFICATE}", TOPIC, False),
        (f"https://sns.eu-central-1.evil.amazonaws.com/{CERTIFICATE}", TOPIC, False),
        (f"https://sns.eu-central-1.amazonaws.com.evil.example/{CERTIFICATE}", TOPIC, False),
        (f"https://sns.eu-central-1.amazonaws.comcn/{CERTIFICATE}", TOPIC, False),
        ("https://sns.eu-central-1.amazonaws.com/other.pem", TOPIC, False),
        (f"https://sns.eu-central-1.amazonaws.com/x/{CERTIFICATE}", TOPIC, False),
    ],
)
def test_those_of_amazon_sns_are_where_a_region_has_them(url, topic, is_one):
    body = orjson.dumps({"Type": "Notification", "TopicArn": topic, "SigningCertURL": url, "Signature": "x"})
    assert wanted({"aws-sns": {"topic_arn": topic}}, body=body) == (url if is_one else None)
