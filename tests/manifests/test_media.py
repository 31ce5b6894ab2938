import pytest

from batchgen.manifests.media import url_problem


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.com/a.jpg",
        "HTTPS://Images.Example.COM:8443/a%20b.jpg?x=1&y=(2)#z",
        "https://b.s3.eu-west-1.amazonaws.com/a.jpg?X-Amz-Signature=ab%2F",
        "https://bücher.example/é.jpg",
        "https://example.com",
    ],
)
def test_public_https_urls_are_fine(url: str) -> None:
    assert url_problem(url, allow_private=False) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://images.example.com/a.jpg", "must begin with https://"),
        ("ftp://images.example.com/a.jpg", "ftp: URLs are not supported"),
        ("data:image/png;base64,AAAA", "data: URLs are not supported"),
        ("“https://example.com/a.jpg”", "the quotes “ ” around it are typographic: remove them"),
        ("www.example.com/a.jpg", "add https:// in front of www.example.com/a.jpg"),
        ("example.com/a.jpg?x=1", "add https:// in front of example.com/a.jpg?x=1"),
        ("//example.com/a.jpg", "add https:// in front of example.com/a.jpg"),
        ("www.example.com", "add https:// in front of www.example.com"),
        ("images.local/a.jpg", "is not a whole URL"),
        ("a.jpg", "is not a URL: put the file on the web"),
        ("images/a.jpg", "is not a URL: put the file on the web"),
        ("C:\\a.jpg", "is not a URL: put the file on the web"),
        ("file:///images/a.jpg", "give the path of the file"),
        ("s3://bucket", "s3://bucket is a whole bucket: name the file in it"),
        ("gs://bucket/", "is a whole bucket"),
        ("az://b/a.png", "'b' is no name of a bucket"),
        ("s3://bucket/a/../b.png", "without `.`, `..`"),
        ("https://localhost/a.jpg", "is a local name"),
        ("https://files.localhost/a.jpg", "is a local name"),
        ("https://intranet/a.jpg", "is a local name"),
        ("https://10.0.0.1/a.jpg", "is an IP address"),
        ("https://8.8.8.8/a.jpg", "is an IP address"),
        ("https://[::1]/a.jpg", "is an IP address"),
        ("https://127.1/a.jpg", "is not a domain name"),
        ("https://0x7f.0x1/a.jpg", "is not a domain name"),
        ("https://u:p@example.com/a.jpg", "user name or password"),
        ("https://example.com/a b.jpg", "contains a space"),
        ("https://example.com:99999/a", "is not a valid URL"),
        ("https://example.com\\@evil.example/a", "backslash"),
        ("https:///a.jpg", "needs a host"),
        ("https://example..com/a", "is not a domain name"),
        ("https://example.com/" + "a" * 2048, "2,068 characters, at most 2,048"),
    ],
)
def test_other_urls_are_refused_with_advice(url: str, expected: str) -> None:
    assert expected in (url_problem(url, allow_private=False) or "")


@pytest.mark.parametrize(
    ("url", "is_fine"),
    [
        ("https://10.0.0.1/a.jpg", True),
        ("https://intranet/a.jpg", True),
        ("http://127.0.0.1:8000/a.jpg", True),
        ("http://localhost:8000/a.jpg", True),
        ("http://[::1]/a.jpg", True),
        ("http://10.0.0.1/a.jpg", False),
        ("http://images.example.com/a.jpg", False),
    ],
)
def test_private_urls_may_be_allowed(url: str, is_fine: bool) -> None:
    assert (url_problem(url, allow_private=True) is None) == is_fine
