#!/bin/bash
# The life of a volume, a snapshot, an image and an instance, driven by Debian's awscli. $1 is the endpoint; credentials and region come from
# the environment. It fails at the first answer that awscli, or this script, does not take.
set -eu -o pipefail
endpoint=$1
aws() { command /usr/bin/aws --endpoint-url "$endpoint" --output text "$@"; }
tags='Tags=[{Key=openmigrate:system,Value=cli}]'

[ "$(aws sts get-caller-identity --query Account)" = 123456789012 ]
zone=$(aws ec2 describe-availability-zones --query 'AvailabilityZones[0].ZoneName')
subnet=$(aws ec2 describe-subnets --filters "Name=availability-zone,Values=$zone" --query 'Subnets[0].SubnetId')

volume=$(aws ec2 create-volume --availability-zone "$zone" --size 1 --volume-type gp3 --iops 4000 --client-token cli-1 \
	--tag-specifications "ResourceType=volume,$tags" --query VolumeId)
again=$(aws ec2 create-volume --availability-zone "$zone" --size 1 --volume-type gp3 --iops 4000 --client-token cli-1 \
	--tag-specifications "ResourceType=volume,$tags" --query VolumeId)
[ "$volume" = "$again" ] || { echo "one token made $volume and $again" >&2; exit 1; }
aws ec2 wait volume-available --volume-ids "$volume"

snapshot=$(aws ec2 create-snapshot --volume-id "$volume" --tag-specifications "ResourceType=snapshot,$tags" --query SnapshotId)
aws ec2 wait snapshot-completed --snapshot-ids "$snapshot"
image=$(aws ec2 register-image --name cli-image --architecture x86_64 --boot-mode uefi --ena-support --virtualization-type hvm --root-device-name /dev/sda1 \
	--block-device-mappings "DeviceName=/dev/sda1,Ebs={SnapshotId=$snapshot,VolumeType=gp3}" --query ImageId)
aws ec2 wait image-available --image-ids "$image"
instance=$(aws ec2 run-instances --image-id "$image" --instance-type t3.micro --subnet-id "$subnet" --private-ip-address 172.31.0.77 \
	--metadata-options HttpTokens=required --query 'Instances[0].InstanceId')
aws ec2 wait instance-running --instance-ids "$instance"
[ "$(aws ec2 describe-instances --instance-ids "$instance" --query 'Reservations[0].Instances[0].PrivateIpAddress')" = 172.31.0.77 ]
aws ec2 get-console-output --instance-id "$instance" --latest --query Output | grep -q 'login:'

aws ec2 attach-volume --volume-id "$volume" --instance-id "$instance" --device /dev/sdf >/dev/null
aws ec2 wait volume-in-use --volume-ids "$volume"
if refused=$(aws ec2 delete-volume --volume-id "$volume" 2>&1); then
	echo "an attached volume was deleted" >&2
	exit 1
fi
[[ $refused == *VolumeInUse* ]]
aws ec2 detach-volume --volume-id "$volume" >/dev/null
aws ec2 terminate-instances --instance-ids "$instance" >/dev/null
aws ec2 wait instance-terminated --instance-ids "$instance"
aws ec2 wait volume-available --volume-ids "$volume"
aws ec2 deregister-image --image-id "$image" >/dev/null
aws ec2 delete-snapshot --snapshot-id "$snapshot"
aws ec2 delete-volume --volume-id "$volume"
[ -z "$(aws ec2 describe-volumes --filters Name=tag:openmigrate:system,Values=cli --query 'Volumes[].VolumeId')" ]
