"""A small OSS on this machine's loopback: the requests that ossfs makes, parsed, their signatures checked, answered.

No emulator of Alibaba's object store is to be had as a package, and a store that speaks S3 does not know its signatures
(version 1: HMAC-SHA1 over the method, some headers and the resource). Objects lie in memory. Bodies carry the CRC-64
that the real one sends, which the client compares with what it read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import crcmod

from tests.checkpoint.remote.loopback import served

KEY, SECRET, BUCKET = "someone", "hunter2-of-oss", "models"
# Parameters that are part of what is signed, of those that occur.
_SIGNED = {"acl", "bucketInfo", "delete", "objectMeta", "partNumber", "uploadId", "uploads"}
_crc64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=0xFFFFFFFFFFFFFFFF, rev=True)


class Store:
    """What the bucket holds, and what was asked of it.

    Attributes:
        objects: Key to bytes.
        requests: (method, key, names of the query's parameters) of each request that was signed rightly.
        most_keys: How many a listing has at most; the client asks for the next page.
        cut_after: GET's answers end after so many bytes, with the connection; None: none does.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.written: dict[str, datetime] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str, frozenset[str]]] = []
        self.most_keys = 3
        self.cut_after: int | None = None

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        self.objects[key] = data
        self.written[key] = datetime.now(timezone.utc)


@contextmanager
def serving() -> Iterator[tuple[Store, str]]:
    """Yield the one bucket's content and the endpoint."""
    store = Store()
    with served(_Handler, store=store) as address:
        yield store, address


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._check_signature(bucket, key, query)
            if bucket != BUCKET:
                raise _Refused(404, "NoSuchBucket")
            self.store.requests.append((self.command, key, frozenset(query)))
            getattr(self, f"_{self.command.lower()}")(key, query, body)
        except _Refused as refused:
            self._send(refused.status, f"<Error><Code>{refused}</Code><Message>{refused}</Message></Error>")

    def __getattr__(self, name: str) -> Any:
        if name in ("do_GET", "do_HEAD", "do_PUT", "do_POST", "do_DELETE"):
            return self._answer
        raise AttributeError(name)

    def _check_signature(self, bucket: str, key: str, query: dict[str, str]) -> None:
        signed = sorted((name, value) for name, value in query.items() if name in _SIGNED)
        parameters = "&".join(f"{name}={value}" if value else name for name, value in signed)
        own = sorted(
            (name.lower(), value) for name, value in self.headers.items() if name.lower().startswith("x-oss-")
        )
        text = "\n".join(
            [self.command, *(self.headers.get(name, "") for name in ("Content-MD5", "Content-Type", "Date"))]
            + [f"{name}:{value}" for name, value in own]
            + [f"/{bucket}/{key}" + (f"?{parameters}" if parameters else "")]
        )
        digest = hmac.new(SECRET.encode(), text.encode(), hashlib.sha1).digest()
        if self.headers.get("Authorization") != f"OSS {KEY}:{base64.b64encode(digest).decode()}":
            raise _Refused(403, "SignatureDoesNotMatch")

    # -- requests ------------------------------------------------------------------------------------------------------

    def _get(self, key: str, query: dict[str, str], body: bytes) -> None:
        if not key:
            self._send(200, self._bucket_info() if "bucketInfo" in query else self._listing(query))
            return
        if "uploadId" in query:
            self._send(200, self._parts(query))
            return
        data = self._object(key)
        first, last = 0, len(data) - 1
        asked = self.headers.get("Range")
        if asked is not None:
            begin, _, end = asked.partition("=")[2].partition("-")
            first, last = int(begin or 0), min(int(end or last), last)
            if first > last:
                raise _Refused(416, "InvalidRange")
        self._send(206 if asked else 200, data[first : last + 1], self._describe(key, first, last, asked))

    def _head(self, key: str, query: dict[str, str], body: bytes) -> None:
        data = self._object(key)
        self._send(200, data, self._describe(key, 0, len(data) - 1, None))

    def _put(self, key: str, query: dict[str, str], body: bytes) -> None:
        etag = hashlib.md5(body).hexdigest().upper()
        source = self.headers.get("x-oss-copy-source")
        if "uploadId" in query:
            self._upload(query)[int(query["partNumber"])] = body
        elif source is not None:
            copied = self._object(unquote(source).lstrip("/").partition("/")[2])
            self.store.put(key, copied)
            etag = hashlib.md5(copied).hexdigest().upper()
            self._send(200, f'<CopyObjectResult><ETag>"{etag}"</ETag><LastModified>{_iso(self.store.written[key])}'
                            "</LastModified></CopyObjectResult>")  # fmt: skip
            return
        else:
            self.store.put(key, body)
        self._send(200, "", {"ETag": f'"{etag}"', "x-oss-hash-crc64ecma": str(_crc64(body))})

    def _post(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "delete" in query:
            for node in ElementTree.fromstring(body).iter("Key"):
                self.store.objects.pop(unquote(node.text or ""), None)
            self._send(200, "<DeleteResult></DeleteResult>")
        elif "uploads" in query:
            number = f"upload{len(self.store.uploads)}"
            self.store.uploads[number] = {}
            self._send(200, f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId>"
                            "</InitiateMultipartUploadResult>")  # fmt: skip
        else:
            parts = self._upload(query)
            named = [int(node.text or 0) for node in ElementTree.fromstring(body).iter("PartNumber")]
            if set(named) - set(parts):
                raise _Refused(400, "InvalidPart")
            self.store.put(key, b"".join(parts[number] for number in named))
            del self.store.uploads[query["uploadId"]]
            crc = {"x-oss-hash-crc64ecma": str(_crc64(self.store.objects[key]))}
            self._send(200, f'<CompleteMultipartUploadResult><ETag>"{len(named)}"</ETag>'
                            "</CompleteMultipartUploadResult>", crc)  # fmt: skip

    def _delete(self, key: str, query: dict[str, str], body: bytes) -> None:
        self.store.objects.pop(key, None)
        self._send(204, "")

    # -- answers -------------------------------------------------------------------------------------------------------

    def _object(self, key: str) -> bytes:
        if key not in self.store.objects:
            raise _Refused(404, "NoSuchKey")
        return self.store.objects[key]

    def _upload(self, query: dict[str, str]) -> dict[int, bytes]:
        if query["uploadId"] not in self.store.uploads:
            raise _Refused(404, "NoSuchUpload")
        return self.store.uploads[query["uploadId"]]

    def _describe(self, key: str, first: int, last: int, asked: str | None) -> dict[str, str]:
        data = self.store.objects[key]
        described = {
            "ETag": f'"{hashlib.md5(data).hexdigest().upper()}"',
            "Last-Modified": format_datetime(self.store.written[key], usegmt=True),
            "x-oss-object-type": "Normal",
            "x-oss-hash-crc64ecma": str(_crc64(data)),
        }
        if asked is not None:
            described["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return described

    def _bucket_info(self) -> str:
        names = {"Name": BUCKET, "CreationDate": "2024-01-01T00:00:00.000Z", "StorageClass": "Standard"}
        names |= {"ExtranetEndpoint": "here", "IntranetEndpoint": "here", "DataRedundancyType": "LRS"}
        owner = "<Owner><ID>1</ID><DisplayName>1</DisplayName></Owner>"
        grant = "<AccessControlList><Grant>private</Grant></AccessControlList>"
        inside = "".join(f"<{name}>{value}</{name}>" for name, value in names.items())
        return f"<BucketInfo><Bucket>{inside}<Location>here</Location>{owner}{grant}</Bucket></BucketInfo>"

    def _listing(self, query: dict[str, str]) -> str:
        prefix, delimiter, marker = (query.get(name, "") for name in ("prefix", "delimiter", "marker"))
        most = min(int(query.get("max-keys") or 100), self.store.most_keys)
        entries: dict[str, str] = {}
        for key in sorted(key for key in self.store.objects if key.startswith(prefix)):
            inside, found, _ = key[len(prefix) :].partition(delimiter or "\0")
            name = f"{prefix}{inside}{delimiter}" if found else key
            if name > marker:
                entries[name] = "CommonPrefixes" if found else "Contents"
        shown = list(entries)[:most]
        more = len(entries) > most
        xml = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        xml += f"<NextMarker>{escape(shown[-1])}</NextMarker>" if more else ""
        for name in shown:
            if entries[name] == "CommonPrefixes":
                xml += f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
                continue
            data = self.store.objects[name]
            xml += (
                f"<Contents><Key>{escape(name)}</Key><LastModified>{_iso(self.store.written[name])}</LastModified>"
                f'<ETag>"{hashlib.md5(data).hexdigest().upper()}"</ETag><Type>Normal</Type><Size>{len(data)}</Size>'
                "<StorageClass>Standard</StorageClass></Contents>"
            )
        return f"<ListBucketResult>{xml}</ListBucketResult>"

    def _parts(self, query: dict[str, str]) -> str:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"{hashlib.md5(data).hexdigest().upper()}"</ETag><Size>{len(data)}</Size>'
            f"<HashCrc64ecma>{_crc64(data)}</HashCrc64ecma></Part>"
            for number, data in sorted(self._upload(query).items())
        )
        ends = "<IsTruncated>false</IsTruncated><NextPartNumberMarker>0</NextPartNumberMarker>"
        return f"<ListPartsResult>{ends}{parts}</ListPartsResult>"

    def _send(self, status: int, body: str | bytes, headers: dict[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {"x-oss-request-id": "1", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.command == "GET" and self.store.cut_after is not None and len(data) > self.store.cut_after:
            data = data[: self.store.cut_after]
            self.close_connection = True
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
