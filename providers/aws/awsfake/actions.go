package awsfake

const (
	filterParams = "Filter.#.Name Filter.#.Value.# MaxResults NextToken "
	tagParams    = "TagSpecification.#.ResourceType TagSpecification.#.Tag.#.Key TagSpecification.#.Tag.#.Value "
)

// ec2Actions are what EC2 understands here, with their parameters.
var ec2Actions = map[string]action{
	"CreateVolume":    {"AvailabilityZone Size SnapshotId VolumeType Iops Throughput Encrypted KmsKeyId ClientToken MultiAttachEnabled " + tagParams, (*Server).createVolume},
	"DescribeVolumes": {"VolumeId.# " + filterParams, (*Server).describeVolumes},
	"AttachVolume":    {"VolumeId InstanceId Device", (*Server).attachVolume},
	"DetachVolume":    {"VolumeId InstanceId Device Force", (*Server).detachVolume},
	"DeleteVolume":    {"VolumeId", (*Server).deleteVolume},

	"CreateSnapshot":    {"VolumeId Description " + tagParams, (*Server).createSnapshot},
	"DescribeSnapshots": {"SnapshotId.# Owner.# RestorableBy.# " + filterParams, (*Server).describeSnapshots},
	"DeleteSnapshot":    {"SnapshotId", (*Server).deleteSnapshot},

	"RegisterImage": {"Name Description Architecture BootMode EnaSupport ImdsSupport RootDeviceName SriovNetSupport TpmSupport VirtualizationType " + mappingParams + tagParams,
		(*Server).registerImage},
	"DescribeImages":  {"ImageId.# Owner.# ExecutableBy.# IncludeDeprecated IncludeDisabled " + filterParams, (*Server).describeImages},
	"DeregisterImage": {"ImageId", (*Server).deregisterImage},

	"RunInstances":            {runParams, (*Server).runInstances},
	"DescribeInstances":       {"InstanceId.# " + filterParams, (*Server).describeInstances},
	"DescribeInstanceStatus":  {"InstanceId.# IncludeAllInstances " + filterParams, (*Server).describeStatus},
	"StartInstances":          {"InstanceId.#", (*Server).changeState},
	"StopInstances":           {"InstanceId.# Force Hibernate", (*Server).changeState},
	"TerminateInstances":      {"InstanceId.#", (*Server).changeState},
	"ModifyInstanceAttribute": {"InstanceId DisableApiTermination.Value", (*Server).modifyInstance},
	"GetConsoleOutput":        {"InstanceId Latest", (*Server).consoleOutput},
	"GetConsoleScreenshot":    {"InstanceId WakeUp", (*Server).screenshot},

	"DescribeInstanceTypes":         {"InstanceType.# " + filterParams, (*Server).describeInstanceTypes},
	"DescribeInstanceTypeOfferings": {"LocationType " + filterParams, (*Server).describeOfferings},
	"DescribeAvailabilityZones":     {"ZoneName.# AllAvailabilityZones " + filterParams, (*Server).describeZones},

	"DescribeVpcs":                  {"VpcId.# " + filterParams, (*Server).describeVPCs},
	"DescribeSubnets":               {"SubnetId.# " + filterParams, (*Server).describeSubnets},
	"DescribeSecurityGroups":        {"GroupId.# " + filterParams, (*Server).describeGroups},
	"CreateSecurityGroup":           {"GroupName GroupDescription VpcId " + tagParams, (*Server).createGroup},
	"AuthorizeSecurityGroupIngress": {ruleParams, (*Server).changeGroup},
	"AuthorizeSecurityGroupEgress":  {ruleParams, (*Server).changeGroup},
	"RevokeSecurityGroupIngress":    {ruleParams, (*Server).changeGroup},
	"RevokeSecurityGroupEgress":     {ruleParams, (*Server).changeGroup},
	"DeleteSecurityGroup":           {"GroupId", (*Server).deleteGroup},

	"CreateTags": {"ResourceId.# Tag.#.Key Tag.#.Value", (*Server).changeTags},
	"DeleteTags": {"ResourceId.# Tag.#.Key Tag.#.Value", (*Server).changeTags},
}
