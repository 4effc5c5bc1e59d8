"""A store that speaks the protocol of S3, with the files of a folder in one bucket.

    python serve.py BUCKET FOLDER

Prints one line of JSON with its address and the key that it wants, and ends when its standard input does.
"""

import json
import os
import sys
from pathlib import Path

bucket, folder = sys.argv[1], Path(sys.argv[2])
files = sorted(path for path in folder.rglob("*") if path.is_file())

# As many calls are let in without a key as this script makes; moto reads it when it is imported.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(len(files) + 4)

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://{host}:{port}"


def client(service: str):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="before",
        aws_secret_access_key="before",
    )


s3, iam = client("s3"), client("iam")
s3.create_bucket(Bucket=bucket)
for path in files:
    s3.put_object(Bucket=bucket, Key=path.relative_to(folder).as_posix(), Body=path.read_bytes())
iam.create_user(UserName="reader")
allow = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
key = iam.create_access_key(UserName="reader")["AccessKey"]
print(json.dumps({"endpoint": endpoint, "id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}), flush=True)

sys.stdin.read()
server.stop()
