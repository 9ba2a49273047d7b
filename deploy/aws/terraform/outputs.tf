output "staging_url" {
  description = "What the master's --staging gets."
  value       = "s3://${aws_s3_bucket.staging.id}?region=${data.aws_region.here.name}&credentials=role"
}

output "master_address" {
  description = "Private address of the master."
  value       = one(aws_instance.master[*].private_ip)
}

output "hydrator_launch_template" {
  description = "Launch template of hydrators."
  value       = one(aws_launch_template.hydrator[*].id)
}

output "target_role_arn" {
  description = "Role that the master of another account assumes."
  value       = one(aws_iam_role.target[*].arn)
}

output "hydrator_role_arn" {
  description = "Role of hydrators, for one that is started by hand."
  value       = aws_iam_role.hydrator.arn
}
