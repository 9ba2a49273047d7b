data "aws_partition" "here" {}
data "aws_region" "here" {}

locals {
  tags = merge({ "openmigrate:deployment" = var.name }, var.tags)
  # The documents are made from deploy/aws/policy, where each action has its reason.
  policy = { for n in ["master", "hydrator", "staging", "kms", "other-account", "machine-role"] : n => templatefile("${path.module}/../policies/${n}.json", {
    Partition      = data.aws_partition.here.partition
    Bucket         = aws_s3_bucket.staging.id
    KmsKeyArn      = var.kms_key_arn
    TargetRoleArn  = var.target_role_arn
    MachineRoleArn = var.machine_role_arn
  }) }
  master_policies = toset(concat(
    ["master", "staging"],
    var.kms_key_arn == "" ? [] : ["kms"],
    var.target_role_arn == "" ? [] : ["other-account"],
    var.machine_role_arn == "" ? [] : ["machine-role"],
  ))
  hydrator_policies = toset(concat(["hydrator"], var.kms_key_arn == "" ? [] : ["kms"]))
  instance_trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role" "master" {
  name               = "${var.name}-master"
  assume_role_policy = local.instance_trust
  tags               = local.tags
}

resource "aws_iam_role_policy" "master" {
  for_each = local.master_policies
  name     = each.key
  role     = aws_iam_role.master.id
  policy   = local.policy[each.key]
}

resource "aws_iam_instance_profile" "master" {
  name = "${var.name}-master"
  role = aws_iam_role.master.name
}

resource "aws_iam_role" "hydrator" {
  name               = "${var.name}-hydrator"
  assume_role_policy = local.instance_trust
  tags               = local.tags
}

resource "aws_iam_role_policy" "hydrator" {
  for_each = local.hydrator_policies
  name     = each.key
  role     = aws_iam_role.hydrator.id
  policy   = local.policy[each.key]
}

resource "aws_iam_instance_profile" "hydrator" {
  name = "${var.name}-hydrator"
  role = aws_iam_role.hydrator.name
}

# What a master or hydrator of another account, or outside AWS, becomes here.
resource "aws_iam_role" "target" {
  count = length(var.master_trusts) > 0 ? 1 : 0
  name  = "${var.name}-target"
  tags  = local.tags
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { AWS = var.master_trusts }
      Condition = { StringEquals = { "sts:ExternalId" = var.external_id } }
    }]
  })
  lifecycle {
    precondition {
      condition     = length(var.external_id) >= 16
      error_message = "Set external_id to 16 or more random characters."
    }
  }
}

resource "aws_iam_role_policy" "target" {
  for_each = length(var.master_trusts) > 0 ? toset(concat(["master", "hydrator"], var.kms_key_arn == "" ? [] : ["kms"])) : toset([])
  name     = each.key
  role     = aws_iam_role.target[0].id
  policy   = local.policy[each.key]
}
