package api

import (
	"net/http"

	"github.com/openmigrate/openmigrate/wire"
)

// operatorRoutes is what people's tools may call, and with which role.
func operatorRoutes() []route {
	const small = 64 << 10
	return []route{
		{"GET", wire.PathWhoami, viewers, 0, (*server).whoami},
		{"GET", wire.PathMachines, viewers, 0, (*server).listMachines},
		{"GET", wire.PathMachine, viewers, 0, (*server).showMachine},
		{"PATCH", wire.PathMachine, operators, small, (*server).changeMachine},
		{"DELETE", wire.PathMachine, operators, 0, (*server).removeMachine},
		{"POST", wire.PathMachinePause, operators, 0, (*server).pause},
		{"POST", wire.PathMachineGoOn, operators, 0, (*server).resume},
		{"POST", wire.PathMachineSync, operators, 0, (*server).sync},
		{"GET", wire.PathSync, viewers, 0, (*server).showSync},
		{"POST", wire.PathRevoke, admins, 0, (*server).revoke},
		{"POST", wire.PathUnfreeze, admins, 0, (*server).unfreeze},
		{"GET", wire.PathRestpointsOf, viewers, 0, (*server).listRestpoints},
		{"GET", wire.PathRestpoint, viewers, 0, (*server).showRestpoint},
		{"GET", wire.PathDiff, viewers, 0, (*server).diff},
		{"POST", wire.PathPin, operators, 0, (*server).pin},
		{"DELETE", wire.PathPin, operators, 0, (*server).unpin},
		{"DELETE", wire.PathRestpointRm, operators, 0, (*server).removeRestpoint},
		{"GET", wire.PathJobs, viewers, 0, (*server).listJobs},
		{"POST", wire.PathJobs, operators, small, (*server).createJob},
		{"GET", wire.PathJobInfo, viewers, 0, (*server).showJob},
		{"DELETE", wire.PathJobInfo, operators, 0, (*server).cancelJob},
		{"POST", wire.PathJobHold, operators, 0, (*server).holdJob},
		{"GET", wire.PathNodes, viewers, 0, (*server).listNodes},
		{"GET", wire.PathNode, viewers, 0, (*server).showNode},
		{"POST", wire.PathNodeRevoke, admins, 0, (*server).revokeNode},
		{"GET", wire.PathEnrolTokens, admins, 0, (*server).listEnrolTokens},
		{"POST", wire.PathEnrolTokens, admins, small, (*server).createEnrolToken},
		{"DELETE", wire.PathEnrolToken, admins, 0, (*server).removeEnrolToken},
		{"GET", wire.PathTokens, admins, 0, (*server).listTokens},
		{"POST", wire.PathTokens, admins, small, (*server).createToken},
		{"DELETE", wire.PathToken, admins, 0, (*server).removeToken},
		{"GET", wire.PathStagingStats, viewers, 0, (*server).stagingStats},
		{"POST", wire.PathStagingRun, admins, 0, (*server).stagingRun},
		{"POST", wire.PathRecoveryKey, admins, 0, (*server).recoveryKey},
	}
}

func (s *server) whoami(c *call) error {
	return c.answer(http.StatusOK, wire.Whoami{Name: c.tok.Name, Role: c.tok.Role(c.tok.Project), Project: c.tok.Project, Version: s.Version})
}
