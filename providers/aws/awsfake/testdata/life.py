"""The life of a volume, a snapshot that is written block by block, an image and an instance, driven by Debian's python3-boto3.

The argument is the endpoint; credentials and region come from the environment. It raises at the first answer that boto3, or this script, does not take.
"""

import base64
import hashlib
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint = sys.argv[1]
config = Config(retries={"max_attempts": 1})


def client(service, **extra):
    return boto3.client(service, endpoint_url=endpoint, config=config, **extra)


def refused(code, call, **args):
    try:
        call(**args)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, (code, e.response)
        return
    raise AssertionError("not refused: want " + code)


def wait(ec2, name, **args):
    ec2.get_waiter(name).wait(WaiterConfig={"Delay": 1, "MaxAttempts": 20}, **args)


sts = client("sts")
refused("AccessDenied", sts.assume_role, RoleArn="arn:aws:iam::123456789012:role/openmigrate", RoleSessionName="boto", ExternalId="wrong")
role = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/openmigrate", RoleSessionName="boto", ExternalId="external")["Credentials"]
keys = dict(aws_access_key_id=role["AccessKeyId"], aws_secret_access_key=role["SecretAccessKey"], aws_session_token=role["SessionToken"])
assert ":assumed-role/openmigrate/boto" in client("sts", **keys).get_caller_identity()["Arn"]
ec2, ebs = client("ec2", **keys), client("ebs", **keys)
tags = [{"Key": "openmigrate:system", "Value": "boto"}]


def spec(kind):
    return [{"ResourceType": kind, "Tags": tags}]


zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
subnet = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [zone]}])["Subnets"][0]

# A snapshot by blocks, and another on top of it.
size, blocks = 512 << 10, {0: b"a" * (512 << 10), 5: b"b" * (512 << 10)}


def put(snapshot, index, data, checksum=None):
    return ebs.put_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockData=data, DataLength=len(data), ChecksumAlgorithm="SHA256",
                                  Checksum=checksum or base64.b64encode(hashlib.sha256(data).digest()).decode())


first = ebs.start_snapshot(VolumeSize=1, ClientToken="boto-1", Tags=tags)
assert first["BlockSize"] == size and first["Status"] == "pending"
assert ebs.start_snapshot(VolumeSize=1, ClientToken="boto-1", Tags=tags)["SnapshotId"] == first["SnapshotId"]
refused("ConflictException", ebs.start_snapshot, VolumeSize=2, ClientToken="boto-1", Tags=tags)
first = first["SnapshotId"]
for i, data in blocks.items():
    put(first, i, data)
refused("ValidationException", put, snapshot=first, index=1, data=blocks[0], checksum=base64.b64encode(bytes(32)).decode())
refused("ValidationException", ebs.complete_snapshot, SnapshotId=first, ChangedBlocksCount=3)
linear = hashlib.sha256(b"".join(hashlib.sha256(blocks[i]).digest() for i in sorted(blocks))).digest()
ebs.complete_snapshot(SnapshotId=first, ChangedBlocksCount=2, Checksum=base64.b64encode(linear).decode(), ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR")
wait(ec2, "snapshot_completed", SnapshotIds=[first])
refused("ValidationException", put, snapshot=first, index=1, data=blocks[0])

second = ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=first, ClientToken="boto-2", Tags=tags)["SnapshotId"]
put(second, 5, b"c" * size)
ebs.complete_snapshot(SnapshotId=second, ChangedBlocksCount=1)
wait(ec2, "snapshot_completed", SnapshotIds=[second])
changed = ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)["ChangedBlocks"]
assert [b["BlockIndex"] for b in changed] == [5], changed
listed = {b["BlockIndex"]: b["BlockToken"] for b in ebs.list_snapshot_blocks(SnapshotId=second)["Blocks"]}
assert sorted(listed) == [0, 5]
got = ebs.get_snapshot_block(SnapshotId=second, BlockIndex=0, BlockToken=listed[0])
assert got["BlockData"].read() == blocks[0]

# A volume of it, and a machine.
volume = ec2.create_volume(AvailabilityZone=zone, SnapshotId=second, VolumeType="gp3", Throughput=250, TagSpecifications=spec("volume"), ClientToken="boto-v")
assert volume["Size"] == 1 and volume["Throughput"] == 250, volume
volume = volume["VolumeId"]
wait(ec2, "volume_available", VolumeIds=[volume])
refused("IdempotentParameterMismatch", ec2.create_volume, AvailabilityZone=zone, Size=3, VolumeType="gp3", ClientToken="boto-v")
refused("InvalidVolume.NotFound", ec2.describe_volumes, VolumeIds=["vol-00000000000000000"])

image = dict(Name="boto image", Architecture="x86_64", BootMode="legacy-bios", EnaSupport=True, VirtualizationType="hvm", RootDeviceName="/dev/sda1",
             BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": second, "VolumeType": "gp3", "DeleteOnTermination": True}}])
ami = ec2.register_image(**image)["ImageId"]
ec2.create_tags(Resources=[ami], Tags=tags)
refused("InvalidAMIName.Duplicate", ec2.register_image, **image)
refused("InvalidSnapshot.InUse", ec2.delete_snapshot, SnapshotId=second)
wait(ec2, "image_available", ImageIds=[ami])

group = ec2.create_security_group(GroupName="boto", Description="nothing gets out", VpcId=subnet["VpcId"])["GroupId"]
out = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"]
ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": r["CidrIp"]} for r in out[0]["IpRanges"]]}])
assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"] == []

run = dict(ImageId=ami, InstanceType="m5.large", MinCount=1, MaxCount=1, ClientToken="boto-i", DisableApiTermination=True, MetadataOptions={"HttpTokens": "required"},
           NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnet["SubnetId"], "Groups": [group]}],
           TagSpecifications=spec("instance") + spec("volume") + spec("network-interface"))
machine = ec2.run_instances(**run)["Instances"][0]["InstanceId"]
assert ec2.run_instances(**run)["Instances"][0]["InstanceId"] == machine
wait(ec2, "instance_running", InstanceIds=[machine])
seen = ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["boto-i"]}])["Reservations"][0]["Instances"][0]
assert seen["NetworkInterfaces"][0]["Groups"][0]["GroupId"] == group and len(seen["BlockDeviceMappings"]) == 1, seen
assert ec2.get_console_screenshot(InstanceId=machine)["ImageData"]
refused("OperationNotPermitted", ec2.terminate_instances, InstanceIds=[machine])
ec2.modify_instance_attribute(InstanceId=machine, DisableApiTermination={"Value": False})
ec2.stop_instances(InstanceIds=[machine])
wait(ec2, "instance_stopped", InstanceIds=[machine])
ec2.start_instances(InstanceIds=[machine])
wait(ec2, "instance_running", InstanceIds=[machine])
ec2.attach_volume(VolumeId=volume, InstanceId=machine, Device="/dev/sdf")
wait(ec2, "volume_in_use", VolumeIds=[volume])
ec2.terminate_instances(InstanceIds=[machine])
wait(ec2, "instance_terminated", InstanceIds=[machine])
wait(ec2, "volume_available", VolumeIds=[volume])

types = [t["InstanceType"] for page in ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 5}) for t in page["InstanceTypes"]]
assert len(types) == len(set(types)) > 5, types
ec2.delete_security_group(GroupId=group)
ec2.deregister_image(ImageId=ami)
ec2.delete_volume(VolumeId=volume)
for s in (first, second):
    ec2.delete_snapshot(SnapshotId=s)
left = [r for kind, call in (("Volumes", ec2.describe_volumes), ("Snapshots", ec2.describe_snapshots), ("Images", ec2.describe_images))
        for r in call(Filters=[{"Name": "tag:openmigrate:system", "Values": ["boto"]}])[kind]]
assert not left, left
