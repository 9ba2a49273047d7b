// Package policy is the one table of what OpenMigrate may do in an AWS account, and why. The documents in deploy/aws/policies and those within the
// CloudFormation template are made from it; a test says when they differ.
//
// Three ideas keep the rights small. What is made carries the tag openmigrate:system from its first moment, and a create without it is refused. What is changed
// or removed must carry it. Nobody but the master has rights on the bucket: agents and hydrators get URLs that the master signs for single objects.
//
// Which actions allow which resources and conditions is https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html,
// list_amazonelasticblockstore.html and list_amazons3.html.
package policy

// Document is one policy.
type Document struct {
	Name  string // of its file
	For   string // who gets it, for people
	Parts []Part
}

// Part is actions that share resources and conditions.
type Part struct {
	ID        string
	Actions   []Action
	Resources []string
	// Conditions are operators, keys and values, as IAM has them.
	Conditions map[string]map[string]string
}

// Action is one right.
type Action struct {
	Name string
	Why  string // what does not work without it
}

// Placeholders in resources, as Terraform's templatefile and CloudFormation's Fn::Sub write them.
const (
	partition = "${Partition}"
	bucket    = "${Bucket}"
	key       = "${KmsKeyArn}"
	target    = "${TargetRoleArn}"
	profile   = "${MachineRoleArn}"
)

const systemTag = "openmigrate:system"

func ec2(kinds ...string) (r []string) {
	for _, k := range kinds {
		account := "*"
		if k == "snapshot" || k == "image" {
			account = "" // their ARNs name no account
		}
		r = append(r, "arn:"+partition+":ec2:*:"+account+":"+k+"/*")
	}
	return r
}

func has(key string) map[string]map[string]string {
	return map[string]map[string]string{"Null": {key: "false"}}
}

var (
	made  = has("aws:RequestTag/" + systemTag)  // it is made with our tag
	owned = has("aws:ResourceTag/" + systemTag) // it has our tag
)

// Documents is the table.
var Documents = []Document{
	{Name: "master", For: "the master: launches, their volumes, snapshots and instances", Parts: []Part{
		{ID: "Look", Resources: []string{"*"}, Actions: []Action{ // these know no resources
			{"ec2:DescribeVolumes", "follow a volume until it is available, attached or gone"},
			{"ec2:DescribeSnapshots", "follow a snapshot until it is completed, and find what a dead launch has left"},
			{"ec2:DescribeImages", "follow the image of a launch, and find one that a crash has left"},
			{"ec2:DescribeInstances", "follow an instance, and find what a dead launch has left"},
			{"ec2:DescribeInstanceTypes", "choose an instance type: architecture, firmware, disks"},
			{"ec2:DescribeAvailabilityZones", "check the zone of a launch before anything is made"},
			{"ec2:DescribeSubnets", "offer the networks that machines can be put into"},
			{"ec2:DescribeSecurityGroups", "find the isolated group of test launches"},
		}},
		{ID: "Make", Resources: ec2("volume", "snapshot", "image", "instance"), Conditions: made, Actions: []Action{
			{"ec2:CreateVolume", "make the disks of a machine"},
			{"ec2:CreateSnapshot", "keep what a volume holds, for a launch from it"},
			{"ec2:RegisterImage", "make the image that an instance starts from"},
			{"ec2:RunInstances", "start a machine"},
		}},
		{ID: "MakeFrom", Resources: ec2("volume", "snapshot", "image"), Conditions: owned, Actions: []Action{
			{"ec2:CreateVolume", "make a disk of a snapshot of ours"},
			{"ec2:CreateSnapshot", "take it of a volume of ours"},
			{"ec2:RegisterImage", "make the image of snapshots of ours"},
			{"ec2:RunInstances", "start from an image and snapshots of ours"},
		}},
		{ID: "RunIn", Resources: ec2("subnet", "security-group", "network-interface"), Actions: []Action{
			{"ec2:RunInstances", "put a machine into the subnet and groups of its launch template"},
		}},
		{ID: "TagWhatIsMade", Resources: ec2("volume", "snapshot", "image", "instance", "network-interface", "security-group"),
			Conditions: map[string]map[string]string{"ForAnyValue:StringEquals": {"ec2:CreateAction": "CreateVolume,CreateSnapshot,RegisterImage,RunInstances,CreateSecurityGroup"}}, Actions: []Action{
				{"ec2:CreateTags", "tag things as they are made, and only then"},
			}},
		{ID: "Attach", Resources: ec2("volume"), Conditions: owned, Actions: []Action{
			{"ec2:AttachVolume", "give a volume to the hydrator that writes it"},
			{"ec2:DetachVolume", "take it back"},
		}},
		{ID: "AttachToHydrators", Resources: ec2("instance"), Conditions: has("aws:ResourceTag/openmigrate:hydrator"), Actions: []Action{
			{"ec2:AttachVolume", "give a volume to the hydrator that writes it"},
			{"ec2:DetachVolume", "take it back"},
		}},
		{ID: "Change", Resources: ec2("volume", "snapshot", "image", "instance"), Conditions: owned, Actions: []Action{
			{"ec2:DeleteVolume", "remove the disks of a launch that is reverted"},
			{"ec2:DeleteSnapshot", "remove snapshots that nothing needs any more"},
			{"ec2:DeregisterImage", "remove the image once its instance is made"},
			{"ec2:StartInstances", "start a machine that was stopped"},
			{"ec2:StopInstances", "stop the target of a cutover that is reverted"},
			{"ec2:TerminateInstances", "remove a test launch"},
			{"ec2:ModifyInstanceAttribute", "lift the protection from termination when a launch is removed"},
			{"ec2:GetConsoleOutput", "show whether a machine starts, and where it stands if not"},
			{"ec2:GetConsoleScreenshot", "the same, for systems without a serial console"},
		}},
		{ID: "IsolatedGroup", Resources: ec2("security-group", "vpc"), Actions: []Action{
			{"ec2:CreateSecurityGroup", "make the group of test launches, which lets nothing out"},
		}},
		{ID: "IsolateGroup", Resources: ec2("security-group"), Conditions: has("aws:ResourceTag/openmigrate:isolated"), Actions: []Action{
			{"ec2:RevokeSecurityGroupEgress", "take the rule out of it that lets everything out"},
		}},
	}},
	{Name: "hydrator", For: "a hydrator: snapshots by EBS direct APIs, without an instance. One that only writes volumes needs no rights at AWS", Parts: []Part{
		{ID: "Follow", Resources: []string{"*"}, Actions: []Action{
			{"ec2:DescribeSnapshots", "wait until a snapshot is completed, and settle a call whose answer was lost"},
		}},
		{ID: "StartSnapshots", Resources: ec2("snapshot"), Conditions: made, Actions: []Action{
			{"ebs:StartSnapshot", "begin the snapshot of a restpoint"},
		}},
		{ID: "TagWhatIsStarted", Resources: ec2("snapshot"), Conditions: made, Actions: []Action{
			{"ec2:CreateTags", "StartSnapshot with tags needs it: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-permissions.html"},
		}},
		{ID: "WriteSnapshots", Resources: ec2("snapshot"), Conditions: owned, Actions: []Action{
			{"ebs:StartSnapshot", "begin it on top of the last one"},
			{"ebs:PutSnapshotBlock", "write a block"},
			{"ebs:CompleteSnapshot", "seal it"},
		}},
	}},
	{Name: "staging", For: "the master: the bucket, which nobody else has rights on", Parts: []Part{
		{ID: "Objects", Resources: []string{"arn:" + partition + ":s3:::" + bucket + "/*"}, Actions: []Action{
			{"s3:PutObject", "write restpoints, and sign URLs by which agents put packs"},
			{"s3:GetObject", "read restpoints, and sign URLs by which hydrators get packs"},
			{"s3:DeleteObject", "collect garbage"},
		}},
		{ID: "List", Resources: []string{"arn:" + partition + ":s3:::" + bucket}, Actions: []Action{
			{"s3:ListBucket", "collect garbage and rebuild the index; without it a missing object looks like a refusal"},
		}},
	}},
	{Name: "kms", For: "master and hydrator, when volumes and snapshots are encrypted with a key of the account's own", Parts: []Part{
		{ID: "Use", Resources: []string{key}, Actions: []Action{
			{"kms:DescribeKey", "EBS asks whether the key can be used"},
			{"kms:Decrypt", "EBS decrypts the data key of a volume or snapshot"},
			{"kms:GenerateDataKeyWithoutPlaintext", "EBS makes the data key of a new volume"},
			{"kms:GenerateDataKey", "EBS direct makes the data key of a snapshot"},
			{"kms:ReEncryptFrom", "EBS makes a volume of a snapshot with another key"},
			{"kms:ReEncryptTo", "the same"},
		}},
		{ID: "Grant", Resources: []string{key}, Conditions: map[string]map[string]string{"Bool": {"kms:GrantIsForAWSResource": "true"}}, Actions: []Action{
			{"kms:CreateGrant", "EC2 opens the volumes of a machine that starts"},
		}},
	}},
	{Name: "other-account", For: "the master, when machines are brought up in another account", Parts: []Part{
		{ID: "Become", Resources: []string{target}, Actions: []Action{
			{"sts:AssumeRole", "act in the other account, whose role trusts this one with an external id"},
		}},
	}},
	{Name: "machine-role", For: "the master, when launched machines get an instance profile", Parts: []Part{
		{ID: "Pass", Resources: []string{profile}, Conditions: map[string]map[string]string{"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}, Actions: []Action{
			{"iam:PassRole", "give a machine that one role, and no other"},
		}},
	}},
}
